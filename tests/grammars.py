"""Constraints of answers as callers write them: what they let through, and what they don't."""

import re
import warnings

ARITHMETIC = """
root  ::= expr
expr  ::= term (("+" | "-") term)*
term  ::= num | "(" expr ")"
num   ::= [0-9]{1,3}
"""
JSON = r"""
# objects, lists, texts and numbers
root   ::= object
object ::= "{" ws (pair ("," ws pair)*)? "}"
pair   ::= string ":" ws value
value  ::= string | object | list | [0-9]+
list   ::= "[" (value ("," ws value)*)? "]"
string ::= "\"" ([^"\\\x00-\x1f] | "\\" ["\\/bfnrt])* "\""
ws     ::= [ \t\n]{0,2}
"""
LARK = r"""
// a greeting
?start: greeting " " NAME -> greet
greeting: "hello"i | "hi"
NAME.2: /[A-Z][a-z]{1,5}/
"""

GRAMMARS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "two words": ('root ::= "yes" | "no"', ("yes", "no"), ("y", "maybe", "yesno", "")),
    "arithmetic": (ARITHMETIC, ("1", "1+2", "(1-(22+333))"), ("1+", "", "1234", "(1")),
    "json": (JSON, ("{}", '{"a": {"b":[1, "2\\n"]}}'), ('{"a"}', "[]", '{"a": "\n"}')),
    "a greeting in Lark": (LARK, ("HELLO Bob", "hi Al"), ("HI Bob", "hi al", "hi")),
    "left recursion in Lark": ('start: sum\nsum: sum "+" N | N\nN: "0".."9"', ("1", "1+2+3"), ("1+", "+1")),
    "repeats": ('root ::= "a"{2,3} [^\\n]* "é"?', ("aa", "aaab", "aaé"), ("a", "aa\n")),
    "repeats in Lark": ('start: (A | b)~2..3\nA: "x"\nb: [ "y" ] "z"~1', ("xx", "yzx", "zzz"), ("x", "yy")),
    "characters": (r'root ::= [\u00e0-\u00ff]+ "\u20ac" "\U0001F600" "\x41" ' + r"'\t'", ("àé€😀A\t",), ("é€",)),
    "nothing": ('root ::= ("a" | "b" |)\n', ("", "a"), ("c", "ab")),
    "any character": ("root ::= . .\n", ("ab", "\né"), ("a", "abc")),
    "many lines": ('root ::=\n  "a" |\n  b\nb ::= "b" # the other\n', ("a", "b"), ("ab",)),
    "a pattern in Lark": (r"start: /[a-c]+(d|\/e)?/ /f{2}/", ("abff", "c/eff"), ("ff", "a/ff")),
    "a list that ends with itself": ('root ::= [a-z] ("," root)?', ("a", "a,b,c"), ("", "a,", "ab")),
    "empty text": ("root ::= \"\" ('')", ("",), ("a",)),
    "no more than four": ('root ::= [0-9]{,4} "."{2}', ("..", "1234.."), ("12345..", "1.")),
}
"""Name to a grammar, texts of it, and texts that are none."""

TWINS: dict[str, str] = {
    "two words": "yes|no",
    "a greeting in Lark": "([hH][eE][lL][lL][oO]|hi) [A-Z][a-z]{1,5}",
    "left recursion in Lark": r"[0-9](\+[0-9])*",
    "repeats": r"a{2,3}[^\n]*é?",
    "repeats in Lark": "(x|y?z){2,3}",
    "characters": "[à-ÿ]+€😀A\t",
    "nothing": "(a|b)?",
    "any character": r"[\s\S]{2}",
    "many lines": "a|b",
    "a pattern in Lark": "[a-c]+(d|/e)?ff",
    "a list that ends with itself": "[a-z](,[a-z])*",
    "no more than four": r"[0-9]{0,4}\.{2}",
}
"""The same languages as regular expressions of Python's, where there is one."""

HOSTILE_GRAMMARS: dict[str, str] = {
    "left recursion": 'root ::= root "a" | "b"',
    "left recursion by another rule": 'root ::= x "a"\nx ::= root | "b"',
    "left recursion behind nothing": 'root ::= x root | "b"\nx ::= "c"?',
    "nothing but itself": "root ::= root",
    "without an end": 'root ::= "a" root',
    "without an end in Lark": 'start: "a" start',
    "an undefined rule": 'root ::= "a" x',
    "two rules of one name": 'root ::= "a"\nroot ::= "b"',
    "no root": 'x ::= "a"',
    "no start": 'x: "a"',
    "start in EBNF": 'start ::= "a"',
    "an unclosed group": 'root ::= ("a"',
    "an unopened group": 'root ::= "a")',
    "an unclosed text": 'root ::= "a',
    "an unclosed set": "root ::= [a",
    "an empty set": "root ::= []",
    "a range out of order": "root ::= [z-a]",
    "a range out of order in Lark": 'start: "b".."a"',
    "a huge repeat": 'root ::= "a"{1000000000}',
    "a repeat out of order": 'root ::= "a"{3,2}',
    "repeats that multiply": "root ::= " + "(" * 6 + '"ab"' + "){1000}" * 6,
    "nested deeply": "root ::= " + "(" * 200 + "(" + '"a"' + ")" * 201,
    "nothing to repeat": 'root ::= * "a"',
    "a rule alone": "root",
    "nothing but a blank": " ",
    "a continuation byte": 'root ::= "\x80"\x80',
    "no character": 'root ::= "\\U99999999"',
    "a token by its name": "root ::= <|im_end|>",
    "a token by its id": "start: <[2]>",
    "an import": "%import common.INT\nstart: INT",
    "another grammar": "start: @other",
    "options of the engine": '%llguidance {"no_forcing": true}\nstart: "a"',
    "lookahead": "start: /a(?=b)/",
    "an anchor": "start: /^a/",
    "flags": "start: /a/i",
    "two characters for a range": 'start: "aa".."b"',
    "an option without an end": 'start: ["a"',
    "prose": "Please answer with yes or no.",
    "bytes for a text": 'root ::= "a" \x00',
}
"""Each a 400 that comes soon."""

PATTERNS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "a phone number": (r"\d{3}-\d{4}", ("555-1234",), ("555-12345", " 555-1234")),
    "a date": (r"(?P<year>20\d{2})-(0[1-9]|1[0-2])-([0-2]\d|3[01])", ("2024-12-31",), ("2024-13-01",)),
    "anchored": ("^(yes|no)$", ("yes", "no"), ("yes\n", "")),
    "a word": ("[a-z]{3,8}", ("abc",), ("ab", "abcdefghi")),
    "an address": (r"[\w.]{1,9}@[a-z]{1,9}\.(com|org)", ("a.b@c.org",), ("a@b.net",)),
    "hexadecimal": ("0x[0-9A-F]{2,4}", ("0xFF",), ("0xff", "0xF")),
    "an address of four": (r"((25[0-5]|1?\d?\d)\.){3}(25[0-5]|1?\d?\d)", ("127.0.0.1",), ("1.2.3", "256.1.1.1")),
    "a time": (r"([01]\d|2[0-3]):[0-5]\d", ("23:59",), ("24:00",)),
    "a list": (r"(one|two)(, (one|two)){0,3}", ("one", "one, two"), ("one,two",)),
    "a colour": ("#([0-9a-f]{3}){1,2}", ("#fff", "#ffffff"), ("#ffff",)),
    "a price": (r"\$\d{1,4}(\.\d{2})?", ("$12", "$12.50"), ("$12.5",)),
    "several lines": (r"- [a-z]{1,5}\n- [a-z]{1,5}", ("- a\n- b",), ("- a - b",)),
    "other letters": ("[ぁ-ん]{1,6}", ("はい",), ("hello",)),
    "an emoji": ("[😀-😎]{1,2}", ("😀",), (":)",)),
    "nothing or something": ("(maybe)?", ("", "maybe"), ("may",)),
    "lazy": ("a+?b*?c", ("abc", "aac"), ("bc",)),
    "not these": ("[^0-9 ]{1,6}", ("abc",), ("a1", "a b")),
    "any but a line's end": (".{1,6}", ("a b",), ("a\nb",)),
    "nested groups": ("((a|b)(c|d)){1,3}", ("ac", "adbc"), ("ab",)),
    "characters that mean something": (r"\(\[\{\.\*\+\?\|\\/\}\]\)", (r"([{.*+?|\/}])",), ("",)),
}
"""Name to a regular expression, texts that match it whole, and texts that don't."""

OF_ECMA = ("[^]", "[]", "\\u{", "\\ud8", "\\c", "\\/", "(?<", "\\<", "\\>")
"""What Python has no reading of, or another one."""


def readable_by_python(pattern: str) -> bool:
    """Whether Python reads an expression as we do."""
    if any(piece in pattern for piece in OF_ECMA):
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            re.compile(pattern)
        except (re.error, OverflowError, RecursionError):
            return False
    return True


HOSTILE_PATTERNS: dict[str, str] = {
    "an unclosed group": "(a",
    "an unopened group": "a)",
    "an unclosed set": "[a",
    "a lone backslash": "a\\",
    "nothing to repeat": "*a",
    "twice repeated": "a**",
    "a huge repeat": "a{100000}",
    "repeats that multiply": "((a{1,100}){1,100}){1,100}",
    "nested deeply": "(" * 400 + "a" + ")" * 400,
    "lookahead": "(?=a)b",
    "lookbehind": "(?<=a)b",
    "a back reference": r"(a)\1",
    "a conditional": "(a)?(?(1)b|c)",
    "recursion": "(a(?R)?b)",
    "a word's end": r"\bfoo\b",
    "flags": "(?i)a",
    "a property": r"\p{L}+",
    "an empty set": "[]",
    "nothing at all matches": r"[^\x00-\U0010ffff]",
    "a range out of order": "[z-a]",
    "an anchor within": "a^b",
    "too long": "a" * 1025,
}
