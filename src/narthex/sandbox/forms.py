"""Compiles whatever an answer may be constrained by, and holds finished texts against it."""

import functools
from typing import Final

import llguidance

from narthex.core.constrained import ChoiceFormat, Constraint, GrammarFormat, JsonFormat, RegexFormat
from narthex.sandbox import grammar, validity
from narthex.sandbox.choices import fault_of_choice
from narthex.sandbox.derivations import derived
from narthex.sandbox.patterns import PatternRefused, literal, matched_whole
from narthex.sandbox.protocol import NAMES, SPACING
from narthex.sandbox.schema_text import SchemaRefused
from narthex.wire.json import encode

MAX_CHOICES_BYTES: Final = 64 * 1024

_PIECE: Final = 64
"""Bytes that are taken at once while a text is checked: in between the job's time is looked at."""


@functools.lru_cache(maxsize=64)
def rule_of(constraint: Constraint) -> str:
    """See `Grammars.rule_of`. The last ones are kept, because texts that were cut are held against them.

    Raises:
        SchemaRefused: it can't be held.
    """
    if isinstance(constraint, JsonFormat):
        return grammar.rule(constraint.schema, _layout(constraint.spacing))
    rule = _rule(constraint)
    if (error := grammar.probe(rule)) is not None:
        raise SchemaRefused(f"This {NAMES[type(constraint)]} can't be held: {error}.", "")
    return rule


def _rule(constraint: RegexFormat | ChoiceFormat | GrammarFormat) -> str:
    match constraint:
        case RegexFormat(pattern=pattern):
            return f"/{_whole(pattern)}/"
        case ChoiceFormat(options=options):
            return f"/{_any_of(options)}/"
        case GrammarFormat(grammar=text):
            return derived(text)


def _whole(pattern: str) -> str:
    try:
        return matched_whole(pattern)
    except PatternRefused as error:
        raise SchemaRefused(f"This regular expression can't be held: {error}.", "") from None


def _any_of(options: tuple[str, ...]) -> str:
    if sum(len(option.encode(errors="surrogatepass")) for option in options) > MAX_CHOICES_BYTES:
        raise SchemaRefused(f"The choices are longer than {MAX_CHOICES_BYTES // 1024} KiB.", "")
    try:
        return "|".join("".join(map(literal, option)) for option in options)
    except PatternRefused as error:
        raise SchemaRefused(f"This list of choices can't be held: {error}.", "") from None


def _layout(spacing: str | None) -> grammar.Layout:
    """The layout in which all that stands between two tokens of JSON matches a pattern.

    Most of them have nothing between them, and some a blank.
    """
    if spacing is None:
        return grammar.LAYOUT
    try:
        pattern = f"/{matched_whole(spacing)}/"
    except PatternRefused as refused:
        error: str | None = str(refused)
    else:
        error = grammar.probe(pattern)
        if error is None and _is_derived(pattern, ""):
            return grammar.LAYOUT if _is_derived(pattern, " ") else grammar.DENSE
    why = error or "it does not match where there is none"
    raise SchemaRefused(f"This pattern for white space can't be held: {why}.", SPACING)


# --- checks ----------------------------------------------------------------------------------------------------------


def fault_of(constraint: Constraint, text: str, *, cut: bool = False) -> str | None:
    """See `Grammars.fault_of`.

    Raises:
        SchemaRefused: the constraint can't be read.
    """
    if cut:
        return None if _begins(rule_of(constraint), text) is not None else "it is no beginning of what was asked for."
    match constraint:
        case JsonFormat(schema=schema):
            return validity.fault(schema, text)
        case RegexFormat(pattern=pattern):
            # By another reader of regular expressions than the one that wrote it anew.
            found = validity.fault(encode({"pattern": f"^(?:{pattern})$"}), encode(text).decode())
            return found and "it does not match the regular expression."
        case ChoiceFormat():
            return fault_of_choice(constraint, text, cut=False)
        case GrammarFormat():
            return None if _is_derived(rule_of(constraint), text) else "it is not derived by the grammar."


def _is_derived(rule: str, text: str) -> bool:
    matcher = _begins(rule, text)
    return matcher is not None and matcher.is_accepting()


def _begins(rule: str, text: str) -> llguidance.LLMatcher | None:
    """How far a text has come by a rule; None where it goes another way."""
    matcher = llguidance.LLMatcher(grammar.BYTES, f"%llguidance {{}}\nstart: {rule}", log_level=0)
    data = text.encode(errors="replace")
    for at in range(0, len(data), _PIECE):
        piece = list(data[at : at + _PIECE])
        if matcher.try_consume_tokens(piece) < len(piece):
            return None
    return matcher
