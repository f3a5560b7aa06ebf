"""Grammars, regular expressions and choices: held exactly by both compilers, or refused."""

import time

import pytest
from tests.grammar_engines import ENGINES
from tests.grammars import GRAMMARS, HOSTILE_GRAMMARS, HOSTILE_PATTERNS, PATTERNS

from narthex.core.constrained import (
    ANY_OBJECT,
    MAX_GRAMMAR_BYTES,
    ChoiceFormat,
    Constraint,
    GrammarFormat,
    JsonFormat,
    RegexFormat,
)
from narthex.sandbox import derivations
from narthex.sandbox.derivations import derived
from narthex.sandbox.forms import fault_of, rule_of
from narthex.sandbox.patterns import PatternRefused, matched_whole, set_of
from narthex.sandbox.protocol import SPACING
from narthex.sandbox.schema_text import SchemaRefused

OBJECT = b'{"type":"object","properties":{"a":{"enum":[1]},"b":{"enum":[2]}},"required":["a","b"]}'


def grammar(text: str) -> GrammarFormat:
    return GrammarFormat(grammar=text, path="guided_grammar")


def regex(pattern: str) -> RegexFormat:
    return RegexFormat(pattern=pattern, path="guided_regex")


def choice(*options: str) -> ChoiceFormat:
    return ChoiceFormat(options=options, path="guided_choice")


def spaced(spacing: str) -> JsonFormat:
    return JsonFormat(schema=OBJECT, path="guided_json", spacing=spacing)


def hold(constraint: Constraint, texts: tuple[str, ...], others: tuple[str, ...]) -> None:
    rule = rule_of(constraint)
    for engine in ENGINES:
        for text in texts:
            assert engine(rule).accepts(text.encode()), text
        for text in others:
            assert not engine(rule).accepts(text.encode()), text
    for text in texts:
        assert fault_of(constraint, text) is None
        assert all(fault_of(constraint, text[:end], cut=True) is None for end in range(len(text) + 1))
    for text in others:
        assert fault_of(constraint, text) is not None


@pytest.mark.parametrize("name", GRAMMARS)
def test_grammars_are_held(name: str) -> None:
    text, texts, others = GRAMMARS[name]
    hold(grammar(text), texts, others)


@pytest.mark.parametrize("name", PATTERNS)
def test_regular_expressions_are_held(name: str) -> None:
    pattern, texts, others = PATTERNS[name]
    hold(regex(pattern), texts, others)


@pytest.mark.parametrize(
    ("options", "others"),
    [
        (("yes", "no"), ("y", "yesno", "")),
        (("yes", "yes!", "yes, of course"), ("yes,",)),
        (("été", "😀", 'a"b\\c/d', "a\nb", " "), ("é", "  ")),
        (("|", ".*", "(a)", "[b]", "%json", "a+"), ("a", "b", "aa")),
        (tuple(f"option number {number} of the list" for number in range(1000)), ("option number 1",)),
    ],
)
def test_choices_are_held(options: tuple[str, ...], others: tuple[str, ...]) -> None:
    hold(choice(*options), options[:9], others)
    assert fault_of(choice(*options), f"{options[0]}?", cut=True) is not None


def refusal(constraint: Constraint) -> SchemaRefused:
    with pytest.raises(SchemaRefused) as caught:
        rule_of(constraint)
    return caught.value


@pytest.mark.parametrize("name", HOSTILE_GRAMMARS)
def test_hostile_grammars_are_refused_soon(name: str) -> None:
    began = time.process_time()
    message = refusal(grammar(HOSTILE_GRAMMARS[name])).message
    assert message.startswith("This grammar can't be held: ")
    assert time.process_time() - began < 2


@pytest.mark.parametrize("name", HOSTILE_PATTERNS)
def test_hostile_regular_expressions_are_refused_soon(name: str) -> None:
    began = time.process_time()
    assert refusal(regex(HOSTILE_PATTERNS[name])).message.startswith("This regular expression can't be held: ")
    assert time.process_time() - began < 2


@pytest.mark.parametrize("pattern", ["(a*)*b", "(a|a)*b", "(a+)+$", "(.*)(.*)(.*)(.*)c", "(x{1,100}){1,99}"])
def test_what_is_a_catastrophe_elsewhere_is_held_here(pattern: str) -> None:
    began = time.process_time()
    rule_of(regex(pattern))
    assert fault_of(regex(pattern), "a" * 5000, cut="x" not in pattern and "c" not in pattern) in {
        None, "it does not match the regular expression.",
    }  # fmt: skip
    assert time.process_time() - began < 2


def test_sizes_are_limited() -> None:
    assert "16 KiB" in refusal(grammar(f'root ::= "{"a" * MAX_GRAMMAR_BYTES}"')).message
    assert "64 KiB" in refusal(choice(*(f"{number}{'x' * 90}" for number in range(1000)))).message
    assert "lone surrogate" in refusal(choice("\ud800")).message
    assert "lone surrogate" in refusal(grammar('root ::= "\ud800"')).message


def test_a_line_is_named() -> None:
    assert "line 3" in refusal(grammar('# a\nroot ::= "a" |\n  x')).message
    assert "line 2" in refusal(grammar('start: "a"\n%ignore " "')).message


def test_what_is_never_reached_is_no_fault() -> None:
    assert rule_of(grammar('root ::= "a"\nx ::= "b" x')) == "/a/"


@pytest.mark.parametrize("limit", ["MAX_STATES", "_LONGEST"])
def test_what_is_too_much_for_one_expression_is_written_by_rules(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text, texts, others = GRAMMARS["repeats"]
    monkeypatch.setattr(derivations, limit, 2)
    assert "\nform_0: " in derived(text)
    hold(grammar(text), texts, others)
    hold(grammar('root ::= x x\nx ::= ("a" | y)\ny ::= ""'), ("", "a", "aa"), ("aaa",))


# --- white space -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spacing", "text"),
    [
        ("[ ]?", '{"a": 1, "b": 2}'),
        (r"\s*", '{"a": 1, "b": 2}'),
        (r"[\n\t ]*", '{"a": 1, "b": 2}'),
        ("", '{"a":1,"b":2}'),
        (r"\n?", '{"a":1,"b":2}'),
        ("(  )*", '{"a":1,"b":2}'),
    ],
)
def test_all_white_space_matches_its_pattern(spacing: str, text: str) -> None:
    rule = rule_of(spaced(spacing))
    for engine in ENGINES:
        assert engine(rule).accepts(text.encode())
    assert fault_of(spaced(spacing), text) is None


@pytest.mark.parametrize("spacing", [" +", "x", "(", "(?=a)", r"[^\x00-\U0010ffff]", "(a{1000}){1000}"])
def test_other_patterns_are_refused_at_their_own_place(spacing: str) -> None:
    refused = refusal(spaced(spacing))
    assert refused.at == SPACING
    assert "white space" in refused.message


# --- checks ----------------------------------------------------------------------------------------------------------


def test_faults_are_told() -> None:
    assert fault_of(regex("a+"), "b") == "it does not match the regular expression."
    assert fault_of(choice("a"), "b") == "it is none of the choices."
    assert fault_of(grammar('root ::= "a"'), "b") == "it is not derived by the grammar."
    assert fault_of(grammar('root ::= "a"'), "b", cut=True) == "it is no beginning of what was asked for."
    assert fault_of(JsonFormat(schema=ANY_OBJECT, path=""), '{"a"', cut=True) is None
    assert fault_of(JsonFormat(schema=ANY_OBJECT, path=""), '{"a"') is not None
    assert fault_of(grammar('root ::= "a"*'), "a" * 300) is None


# --- pieces of patterns ----------------------------------------------------------------------------------------------


def test_a_pattern_for_the_whole_text() -> None:
    assert matched_whole("^a$|b") == "(?:a|b)"
    assert matched_whole("") == "(?:)"
    assert matched_whole("^$") == "(?:)"
    assert matched_whole("(^a|b$)") == "(?:a|b)"
    with pytest.raises(PatternRefused):
        matched_whole("a(^b)")


def test_a_set() -> None:
    assert set_of(r"[a-z\n\U0001F600]") == r"[a-z\u000a\U0001f600]"


AMBIGUOUS = ('start: start start | "a" | ""', "start: s\ns: s s | s s s | /[a-z ]/ | ")


@pytest.mark.parametrize("text", AMBIGUOUS)
def test_what_takes_ever_longer_is_refused(text: str) -> None:
    """An engine would stand still for everybody, some seconds for each token."""
    assert refusal(grammar(text)).message == "This grammar can't be held: its texts are too ambiguous."


def test_what_is_a_little_ambiguous_is_held() -> None:
    hold(grammar('start: e\ne: e "+" e | e "*" e | "(" e ")" | /[0-9]+/'), ("1+2*3", "(1)"), ("1+", "()"))


def test_what_the_checker_has_no_reading_of_is_held_against_the_rule() -> None:
    hold(regex("()+a?"), ("", "a"), ("b", "aa"))
