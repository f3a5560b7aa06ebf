"""Constraints that mean harm, by the classes of public advisories: each a 400 that comes soon.

CVE-2025-48942 and CVE-2025-48943 (a schema or an expression that is none ends the engine), CVE-2025-48944 (types and
patterns that are none), CVE-2025-29770 and CVE-2025-32381 (caches of grammars without bounds), CVE-2025-46560 and
CVE-2025-32444's kin (quadratic readers), CVE-2026-25048 (nested grammars overflow the stack), and what was told of
llama.cpp's grammars: endless rules, repeats that multiply or are out of order, roots that are missing. Rows that the
unit tests hold, too, are in `tests.grammars` and `tests.hostile_schemas`.
"""

import json
from collections.abc import Iterator
from typing import Any, Literal

from tests.grammars import HOSTILE_GRAMMARS, HOSTILE_PATTERNS
from tests.hostile_schemas import ACCEPTED, REFUSED, nested

Kind = Literal["json", "regex", "choice", "grammar"]
MEGA = 1_000_000

_META: dict[str, Any] = {"$schema": "http://127.0.0.1:1/schema", "type": "string"}

SCHEMAS: dict[str, Any] = {name: schema for name, (schema, _) in REFUSED.items()} | {
    # what is no schema
    "no JSON": '{"type": "object"',
    "a list": "[]",
    "a number": 7,
    "true": True,
    "half a character": '{"const": "\\ud800"}',
    "half a character as a name": '{"properties": {"\\udfff": {}}}',
    "NUL as a name": {"type": "object", "properties": {"\0": {}}, "required": ["\0"]},
    "a number that is none": '{"minimum": NaN}',
    "an endless number": '{"minimum": 1e999}',
    "a type in a list that is none": {"type": ["string", "nothing"]},
    "no types": {"type": []},
    "a type as a lure": {"type": {"__class__": "x"}},
    "negative counts": {"type": "array", "minItems": -1},
    "halves as counts": {"type": "string", "maxLength": 1.5},
    "required that is no list": {"type": "object", "required": "a"},
    "no values": {"enum": []},
    "no branches": {"anyOf": []},
    # references
    "a reference to itself": {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
    "a reference to a private address": {"$ref": "http://169.254.169.254/latest/meta-data/"},
    "a reference to a host": {"properties": {"a": {"$ref": "https://example.com/schema.json"}}},
    "a reference by a relative address": {"$ref": "other.json"},
    "a reference below an address": {"$id": "http://127.0.0.1:1/", "properties": {"a": {"$id": "x", "$ref": "y"}}},
    "a dynamic reference": {"$dynamicRef": "#a", "$dynamicAnchor": "a"},
    "a reference to no schema": {"$ref": "#/title", "title": "x"},
    "a reference that is no text": {"$ref": 7},
    "a reference with a NUL": {"$ref": "#/\0"},
    "a schema's schema elsewhere": {"$defs": {"a": _META | {"$ref": "#/$defs/b"}}, "$ref": "#/$defs/a"},
    "endless lists": {"$defs": {"a": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/a"}}},
                      "$ref": "#/$defs/a"},
    "endless objects": {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
    # size and depth
    "10 MB": {"title": "x" * 10 * MEGA},
    "10 MB of names": {"type": "object", "properties": {f"{'n' * 90}{at}": {} for at in range(80_000)}},
    "10 MB of values": {"enum": list(range(MEGA))},
    "100 levels": nested(100),
    "text that is deep": "[" * 100_000,
    "text that is deep and whole": '{"items":' * 9_000 + "{}" + "}" * 9_000,
    "not within not": json.loads('{"not":' * 60 + "{}" + "}" * 60),
    "if within if": json.loads('{"if":true,"then":' * 60 + "{}" + "}" * 60),
    # what multiplies
    "alternatives of alternatives": {"allOf": [{"anyOf": [{"minimum": at} for at in range(20)]}] * 20},
    "overlapping branches": {"oneOf": [{"type": "object", "properties": {f"a{at}": {}}} for at in range(300)]},
    "patterns of names that meet": {"type": "object", "additionalProperties": False,
                                    "patternProperties": {f"^(a|b){{{at}}}": {} for at in range(1, 90)}},
    "patterns that meet in a property": {
        "properties": {"a": {"allOf": [{"type": "string", "pattern": f"(a|b).{{{n}}}c"} for n in range(20, 45)]}}},
    "a repeat of repeats": {"type": "string", "pattern": "((a{1,100}){1,100}){1,100}"},
    "unique items": {"type": "array", "uniqueItems": True},
    "a pattern with lookahead": {"type": "string", "pattern": "^(?=(a+)+$)"},
    "a pattern with a back reference": {"type": "string", "pattern": r"^(a+)\1+$"},
    "a format of patterns": {"type": "string", "format": "(a+)+$", "pattern": "[", "minLength": 3},
}  # fmt: skip

EXPRESSIONS: dict[str, str] = HOSTILE_PATTERNS | {
    "a repeat of 100 000": "(a|b){1,100000}",
    "a repeat beyond numbers": "a{99999999999999999999}",
    "repeats in a row": "(a{1000}b{1000}){1000}",
    "repeats within repeats": "(((a{0,99}){0,99}){0,99}){0,99}",
    "half a character": "\\ud800",
    "half a character the other way": r"[\udc00-\udfff]",
    "beyond all characters": r"\U00110000",
    "10 MB": "(a|b)*" * (10 * MEGA // 6),
    "much nesting": "(?:" * 300 + "x" + ")*" * 300,
    "an atomic group": "(?>a+)b",
    "a possessive repeat": "a++b",
    "a code block": "(?{print 1})",
    "a comment": "(?#x)a",
    "a keep": r"a\Kb",
    "the previous match": r"\Ga",
    "a named back reference": "(?P<n>a)(?P=n)",
    "a property by its name": r"\p{Script=Han}{1,9}",
    "a range of sets": r"[\d-z]",
    "an end in the midst": "a$b",
    "one that no text matches": r"[^\s\S]",
}

LISTS: dict[str, Any] = {
    "none": [],
    "an empty one": ["a", ""],
    "1001": [f"{at}" for at in range(1001)],
    "a million": ["a"] * MEGA,
    "10 MB": ["x" * 10 * MEGA],
    "64 KiB and more": [f"{at}{'x' * 90}" for at in range(1000)],
    "numbers": [1, 2],
    "lists": [["a"]],
    "null": [None],
    "a text": "yes|no",
}

GRAMMARS: dict[str, str] = HOSTILE_GRAMMARS | {
    "10 MB": 'root ::= "' + "a" * 10 * MEGA + '"',
    "16 KiB and one": 'root ::= "' + "a" * (16 * 1024 - 10) + '"',
    "60 000 groups": "root ::= " + "(" * 60_000 + '"a"' + ")" * 60_000,
    "8 000 groups": "root ::= " + "(" * 8_000 + '"a"' + ")" * 8_000,
    "8 000 groups that nothing closes": "root ::= " + "(" * 16_000,
    "nothing again and again": "root ::= (root?)*",
    "nothing by two rules": 'root ::= a*\na ::= b*\nb ::= root? a? "x"?',
    "a chain that bites its tail": "root ::= r0\n" + "\n".join(f"r{at} ::= r{(at + 1) % 900}" for at in range(900)),
    "repeats of repeats": 'root ::= ((("a"{1000}){1000}){1000}){1000}',
    "a repeat of -1": 'root ::= "a"{-1}',
    "a repeat out of order": 'root ::= "a"{5,0}',
    "a repeat beyond numbers": 'root ::= "a"{99999999999999999999999}',
    "a root that is only used": 'x ::= root "a"',
    "only white space": " \n\t\n",
    "only a comment": "# root ::= x",
    "a NUL": "\0",
    "a rule with a NUL": 'root\0 ::= "a"',
    "half a character": 'root ::= "\\ud800"',
    "half a character in a set": "root ::= [\\udc00-\\udfff]",
    "quotes without end": "root ::= " + '\\"' * 8_000,
    "apostrophes without end": "root ::= " + "'\\" * 8_000,
    "stars": "root ::= " + "*" * 16_000,
    "questions": "start: a" + "?" * 16_000,
    "an import of a file": '%import "/etc/passwd"\nstart: x',
    "a declaration": "%declare A\nstart: A",
    "an ignored one": 'start: "a"\n%ignore /(a+)+/',
    "a schema within": 'start: %json {"type": "string"}',
    "a hidden left recursion": 'root ::= a root "x" | "y"\na ::= b b b\nb ::= "z"*',
    "a doubling": "root ::= r0\n"
    + "".join(f"r{at} ::= r{at + 1} r{at + 1}\n" for at in range(600))
    + 'r600 ::= r0 "a"',
}

HELD: tuple[tuple[Kind, Any], ...] = (
    *(("json", schema) for schema in ACCEPTED.values()),
    ("json", {"default": json.loads("[" * 100 + "]" * 100)}),
    (
        "json",
        {"type": "array", "items": {"anyOf": [{"type": "string", "pattern": f"^.{{{n}}}b.*a$"} for n in range(20)]}},
    ),
    ("json", {"type": "string", "pattern": "^(a|b|ab|ba|aab){1,900}$"}),
    ("json", {"type": "string", "minLength": 60_000}),
    ("regex", "(.*a){9}.{90}"),
    ("regex", "(a|aa|aaa|aaaa|aaaaa)*.{0,500}b"),
    ("regex", "((a?){30}){30}b"),
    ("regex", "(.|..|...|....)*z"),
    ("regex", "(.{1,99}x){99}"),
    ("choice", [f"{'a' * at}b" for at in range(300)]),
    ("choice", [chr(0x4E00 + at) * 10 for at in range(1000)]),
    ("grammar", 'root ::= a{999}\na ::= b{999}\nb ::= c{999}\nc ::= "x" root? "y"'),
    ("grammar", "start: a\na:"),
    ("grammar", "start: " + "/" * 16_000),
    ("grammar", 'start: start start | "a" | ""'),
    ("grammar", "start: s\ns: s s | s s s | /[a-z ]/ | "),
    ("grammar", 'root ::= ("a" root? "b"?)+'),
    ("grammar", "root ::= [a-z ]* root2\nroot2 ::= [a-z ]* (root2 | root3)?\nroot3 ::= [a-z ]* root2?"),
    ("grammar", 'root ::= x*\nx ::= "(" root ")" | [^()] | [^()] [^()] | [^()] [^()] [^()]'),
    ("grammar", "root ::= " + " | ".join(f"[a-z ]{{{n}}} root" for n in range(1, 60)) + ' | "."'),
)
"""Those that can be held, and must not slow others down either."""


def hostile() -> Iterator[tuple[Kind, str, Any]]:
    """Kind of constraint, what it tries, and its value."""
    for kind, rows in (("json", SCHEMAS), ("regex", EXPRESSIONS), ("choice", LISTS), ("grammar", GRAMMARS)):
        for name, value in rows.items():
            yield kind, name, value  # type: ignore[misc]
