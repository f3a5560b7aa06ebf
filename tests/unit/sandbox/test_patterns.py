"""Patterns of JSON Schema in plain syntax: the same language, or a refusal."""

import json
import re

import pytest
from tests.grammar_engines import ENGINES

from narthex.sandbox.patterns import PatternRefused, other_than, plain

HELD = {
    "^a+$": (["a", "aaa"], ["", "ab"]),
    "a": (["a", "xay", "\na\n"], ["", "b"]),
    "^a|b$": (["ax", "xb"], ["xa", "bx"]),
    "(^a$)|(^b$)": (["a", "b"], ["ab", ""]),
    "^(?:a|b){2}$": (["ab", "ba"], ["a", "abb"]),
    "^(?<year>[0-9]{4})$": (["2024"], ["202"]),
    r"^\d\D$": (["1a", "1\n"], ["a1", "٣a"]),
    r"^\w\W$": (["a-", "_é"], ["é-", "--"]),
    r"^\s\S$": (["\u00a0a", "\ta"], ["a ", "\u200ba"]),
    "^.$": (["a", "é", "\u0000"], ["\n", "\r", "\u2028", "ab"]),
    r"^[^\d-]$": (["a", "\n"], ["1", "-"]),
    r"^[\w.-]+$": (["a.b-c"], ["a b", ""]),
    r"^[\D]$": (["a"], ["1"]),
    r"^[a\-z\]]$": (["a", "-", "z", "]"], ["b"]),
    r"^[\b]$": (["\b"], ["b"]),
    "^[^]$": (["\n", "a"], [""]),
    "^[[]$": (["["], ["]"]),
    "^[a-c-]$": (["b", "-"], ["d"]),
    r"^\x41\u0042\u{43}\cJ\0\t\/$": (["ABC\n\0\t/"], ["ABC\n\0\t"]),
    r"^\ud83d\ude00\u{1F601}$": (["😀😁"], ["😀"]),
    "^a{2}b{1,}c{0,2}d*?e+?f??$": (["aabe", "aabccddeef"], ["abe", "aabccce"]),
    "^a{,3}x{}$": (["a{,3}x{}"], ["aaa"]),
    "": (["", "anything"], []),
    "^$": ([""], ["a"]),
    "^(|a)$": (["", "a"], ["aa"]),
    r"^\.\*\+\?\^\$\(\)\[\]\{\}\|\\$": ([".*+?^$()[]{}|\\"], ["."]),
    "^}]$": (["}]"], []),
}

REFUSED = [
    *(
        "(",
        "a)",
        "[a",
        "a\\",
        "*a",
        "a**",
        "+",
        "a{2}{3}",
        "{1}",
        "(?=a)",
        "(?!a)",
        "(?<=a)",
        "(?<!a)",
        "(?i)a",
        "(?i:a)",
    ),
    *(
        r"\bfoo",
        r"\B",
        r"(a)\1",
        r"\k<a>",
        r"\p{L}",
        r"\q",
        "[z-a]",
        r"[\d-z]",
        r"[a-\d]",
        "[]",
        "a{2,1}",
        "^*",
        "a{1001}",
        "a{99999999999}",
    ),
    *(r"[^\D]", r"[\Da]", r"[\D\W]", r"\ud800", "\\u{110000}", "(a|^b)c", "a$b", "(a$)+", "(a{1000}){1000}"),
    *("(((a{100}){100}){100}){100}", "(" * 60 + ")" * 60, "a" * 1025, "é" * 513, r"\01", r"\c1"),
]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("pattern", HELD)
def test_held(pattern: str, engine: type) -> None:
    schema = json.dumps({"type": "string", "pattern": plain(pattern), "x-guidance": {"whitespace_flexible": False}})
    matched, others = HELD[pattern]
    for text, wanted in [*((text, True) for text in matched), *((text, False) for text in others)]:
        spelled = json.dumps(text, ensure_ascii=False).encode()
        assert engine(f"%json {schema}").accepts(spelled) == wanted, text
        assert bool(re.fullmatch(plain(pattern), text)) == wanted, text


@pytest.mark.parametrize("pattern", REFUSED)
def test_refused(pattern: str) -> None:
    with pytest.raises(PatternRefused):
        plain(pattern)


def test_a_long_pattern_is_not_even_read() -> None:
    with pytest.raises(PatternRefused, match="longer than 1024 bytes"):
        plain("(" * 10_000_000)


def test_other_than() -> None:
    names = ["a", "ab", "b", "", "é😀"]
    pattern = re.compile(other_than(names))
    assert [name for name in names if pattern.fullmatch(name)] == []
    for other in ("aa", "abc", "ba", "c", "é", "é😁", "é😀x", "x" * 50, "\n"):
        assert pattern.fullmatch(other), other
    assert re.fullmatch(other_than(["a"]), "")
