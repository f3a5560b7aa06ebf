"""Models that think before they answer: what marks their thoughts, and what steers how much they think."""

from collections.abc import Mapping
from typing import Any

import msgspec

from narthex.engine.local.form.formats import template_knows


class Marks(msgspec.Struct, frozen=True):
    """What stands around thoughts."""

    open: str
    close: str


_ALL = (Marks("<think>", "</think>"), Marks("[THINK]", "[/THINK]"))
_SWITCHES = ("enable_thinking", "thinking")


class Thinking(msgspec.Struct, frozen=True, kw_only=True):
    """How an answer begins: with thoughts that the prompt `opened` already, or that the model may open."""

    marks: Marks
    opened: bool


def thinking_of(template: str, opened: str) -> Thinking | None:
    """Whether and how a model thinks before its answer. `opened`: how the rendered prompt ends."""
    marks = next((each for each in _ALL if each.close in template or each.open in template), None)
    end = opened.rstrip()
    if marks is None or end.endswith(marks.close):
        return None
    return Thinking(marks=marks, opened=end.endswith(marks.open))


def answer_begins(template: str, opened: str) -> str:
    """What has to stand between a rendered prompt, which ends so, and the text of an answer to it."""
    thinking = thinking_of(template, opened)
    return f"\n{thinking.marks.close}\n\n" if thinking is not None and thinking.opened else ""


def effort_variables(template: str, effort: str) -> dict[str, Any] | None:
    """What `reasoning_effort` means to a template; None where the template has no way to heed it.

    A template with nothing but a switch can only be told whether to think, not how much.
    """
    if template_knows(template, "reasoning_effort"):
        known: dict[str, Any] = {"reasoning_effort": effort}
    else:
        known = {}
    known |= {name: effort != "none" for name in _SWITCHES if template_knows(template, name)}
    return known or None


def verbosity_variables(template: str, verbosity: str) -> dict[str, Any] | None:
    """What `verbosity` means to a template; None where the template does not know it."""
    return {"verbosity": verbosity} if template_knows(template, "verbosity") else None


_FIELDS = {"reasoning_effort": effort_variables, "verbosity": verbosity_variables}


def heeded(template: str) -> frozenset[str]:
    """The fields of a request that steer a model through its template, as far as this one heeds them."""
    return frozenset(name for name, variables in _FIELDS.items() if variables(template, "low") is not None)


def unheeded(fields: Mapping[str, Any], template: str) -> str | None:
    """The first field of a request that the template can't heed; None where there is none."""
    for name, variables in _FIELDS.items():
        if name in fields and variables(template, fields[name]) is None:
            return name
    return None


def field_variables(fields: Mapping[str, Any], template: str) -> dict[str, Any]:
    """The template's variables for the fields of a request; what it can't heed is left out."""
    found: dict[str, Any] = {}
    for name, variables in _FIELDS.items():
        if name in fields:
            found |= variables(template, fields[name]) or {}
    return found
