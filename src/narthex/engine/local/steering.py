"""What a request tells its chat template, besides the conversation. Source: contract sections 7.1, 7.3 and 11.

Rule: a template that does not look at what it is told would drop it in silence, so it is not told: the caller is.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from narthex.core.chat import ChatRequest, Message
from narthex.core.errors import InvalidRequest, UnsupportedParameter
from narthex.core.templates import CONTINUE, GENERATION_PROMPT, VARIABLES
from narthex.engine.local.form.formats import template_knows, variables_of
from narthex.engine.local.form.thinking import field_variables, unheeded

_OF_THE_MODEL = frozenset(("bos_token", "eos_token"))
"""Variables that are the model's own."""
_PARTICIPANTS = frozenset(("system", "developer", "user", "assistant"))
"""Roles of messages whose `name` is a participant's, and not a function's."""
NAMES = "messages.name"
"""As it is told where it has no effect."""


class Continued(msgspec.Struct, frozen=True):
    """A conversation, and what there is of its answer already."""

    request: ChatRequest
    begun: str


def continued(request: ChatRequest) -> Continued:
    """What a request asks to go on from: an answer that broke off, or the last message if the caller wants that."""
    if request.begun or not request.fields.get(CONTINUE):
        return Continued(request, request.begun)
    *messages, last = request.messages
    return Continued(msgspec.structs.replace(request, messages=tuple(messages)), last.text)


def check_heeded(fields: Mapping[str, Any], template: str, *, model: str) -> None:
    """Return if the template looks at all that the fields tell it.

    Raises:
        UnsupportedParameter: it does not; names the field, or the variable.
        InvalidRequest: two of them tell it different things.
    """
    if (field := unheeded(fields, template)) is not None:
        raise _ignored(field, model)
    if fields.get(GENERATION_PROMPT) is False and not template_knows(template, GENERATION_PROMPT):
        raise _ignored(GENERATION_PROMPT, model)
    told = field_variables(fields, template)
    for name, value in fields.get(VARIABLES, {}).items():
        path = f"{VARIABLES}.{name[:100]}"
        if name in _OF_THE_MODEL or name not in variables_of(template):
            raise _ignored(path, model)
        if name in told and told[name] != value:
            raise InvalidRequest(f"Invalid '{path}': another field says otherwise.", param=path, code="invalid_value")


def variables(fields: Mapping[str, Any], template: str, *, bracket: Callable[[Any], Any]) -> dict[str, Any]:
    """What the fields tell the template; texts of the caller's are bracketed."""
    told = field_variables(fields, template)
    told |= {name: bracket(value) for name, value in fields.get(VARIABLES, {}).items()}
    if fields.get(GENERATION_PROMPT) is False and not fields.get(CONTINUE):
        told[GENERATION_PROMPT] = False
    return told


def are_named(messages: Sequence[Message]) -> bool:
    """Whether a request says of a participant who that is."""
    return any(message.name and message.role in _PARTICIPANTS for message in messages)


def without_names(variables: Mapping[str, Any]) -> dict[str, Any]:
    """The same conversation, as if nobody were named: a template that makes the same of it drops the names."""
    return {**variables, "messages": [_nameless(message) for message in variables["messages"]]}


def _nameless(message: Mapping[str, Any]) -> dict[str, Any]:
    kept = message["role"] not in _PARTICIPANTS
    return {name: value for name, value in message.items() if kept or name != "name"}


def _ignored(param: str, model: str) -> UnsupportedParameter:
    message = f"'{param}' is not supported with the model '{model}': its chat template ignores it."
    return UnsupportedParameter(message, param=param)
