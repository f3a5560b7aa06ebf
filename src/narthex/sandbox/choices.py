"""Holds a text against a few that it may be; the one check that needs no process of its own."""

from narthex.core.constrained import ChoiceFormat


def fault_of_choice(constraint: ChoiceFormat, text: str, *, cut: bool) -> str | None:
    """See `Grammars.fault_of`."""
    if text in constraint.options or (cut and any(option.startswith(text) for option in constraint.options)):
        return None
    return "it is none of the choices."
