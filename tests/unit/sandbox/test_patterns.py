"""Patterns of JSON Schema in plain syntax: the same language, or a refusal."""

import json
import re

import jsonschema_rs
import pytest
from tests.grammar_engines import ENGINES

from narthex.sandbox.patterns import PatternRefused, matched_whole, other_than, plain, readable

HELD = {
    "^a+$": (["a", "aaa"], ["", "ab"]),
    "a": (["a", "xay", "\na\n"], ["", "b"]),
    "^a|b$": (["ax", "xb"], ["xa", "bx"]),
    "(^a$)|(^b$)": (["a", "b"], ["ab", ""]),
    "^(?:a|b){2}$": (["ab", "ba"], ["a", "abb"]),
    "^(?<year>[0-9]{4})$": (["2024"], ["202"]),
    r"^\d\D$": (["1a", "1\n"], ["a1", "٣a", "1٣"]),
    r"^\w\W$": (["a-", "_😀"], ["é-", "--", "_é", "_²"]),
    r"^\s\S$": (["\u00a0a", "\ta"], ["a ", "\u200ba", "\ufeffa", " \x1c", " \ufeff"]),
    "^.$": (["a", "é", "\u0000"], ["\n", "\r", "\u2028", "ab"]),
    r"^[^\d-]$": (["a", "\n"], ["1", "-"]),
    r"^[\w.-]+$": (["a.b-c"], ["a b", ""]),
    r"^[\D]$": (["a"], ["1"]),
    r"^[^\D][^\S]$": (["1 "], ["a ", "11"]),
    r"^[\Da][\D\W]$": (["a-", "-x"], ["1-", "a1"]),
    r"^[\s\S][\w\W]$": (["\n\x1c", "é٣"], ["é"]),
    r"^[^\d\s-]$": (["a", "é"], ["1", " ", "-", "٣"]),
    r"^\<a\>[a&&b]$": (["<a>&"], ["a", "<a>c"]),
    "^[a~~b][[:x]$": (["~["], ["~a"]),
    r"^[a\-z\]]$": (["a", "-", "z", "]"], ["b"]),
    r"^[\b]$": (["\b"], ["b"]),
    "^[^]$": (["\n", "a"], [""]),
    "^[[]$": (["["], ["]"]),
    "^[a-c-]$": (["b", "-"], ["d"]),
    r"^\x41\u0042\u{43}\cJ\0\t\/$": (["ABC\n\0\t/"], ["ABC\n\0\t"]),
    r"^\ud83d\ude00\u{1F601}$": (["😀😁"], ["😀"]),
    "^a{2}b{1,}c{0,2}d*?e+?f??$": (["aabe", "aabccddeef"], ["abe", "aabccce"]),
    "^a{x{}b{1$": (["a{x{}b{1"], ["aaa"]),
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
    *(
        r"[^\D\S]",
        r"[^\Sa]",
        r"[^\d\D]",
        "a{,3}",
        r"\ud800",
        "\\u{110000}",
        "(a|^b)c",
        "a$b",
        "(a$)+",
        "(a{1000}){1000}",
    ),
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
        assert jsonschema_rs.is_valid({"pattern": plain(pattern)}, text) == wanted, text
        assert not wanted or jsonschema_rs.is_valid({"pattern": readable(pattern)}, text), text


@pytest.mark.parametrize("pattern", REFUSED)
def test_refused(pattern: str) -> None:
    with pytest.raises(PatternRefused):
        plain(pattern)


def test_an_open_repeat_is_read_as_in_python_for_whole_texts() -> None:
    assert matched_whole("a{,3}b{0}") == "(?:a{0,3}b{0,0})"


def test_others_read_patterns_as_they_are_written() -> None:
    assert jsonschema_rs.is_valid({"pattern": readable(r"^\W\s$")}, "é\ufeff")
    assert readable(r"(?=a)") == r"(?=a)"


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
