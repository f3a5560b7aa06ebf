"""The fields that say how a chat becomes the text that a model reads. Source: contract sections 7.1 and 7.3.

Rule: the caller's variables are variables, and nothing else: a name that a server could take for an argument of the
call that renders is refused, whoever asks and whatever the model is trusted with.
"""

from collections.abc import Mapping
from typing import Any

from narthex.core.errors import UnsupportedParameter
from narthex.core.templates import (
    ARGUMENTS,
    CONTINUE,
    GENERATION_PROMPT,
    MAX_LIST,
    MAX_TEMPLATE_BYTES,
    MAX_VARIABLES,
    MAX_VARIABLES_BYTES,
    TEMPLATE,
    VARIABLES,
)
from narthex.dialects.fields import BOOLEAN, STRING, Field, invalid, mapping, wrong_type
from narthex.wire.json import encode

_KINDS = {"type": ["string", "number", "boolean", "null"]}


def _template(value: Any, path: str) -> str:
    text: str = STRING.parse(value, path)
    size = len(text.encode())
    if size > MAX_TEMPLATE_BYTES:
        message = f"string too long. Expected at most {MAX_TEMPLATE_BYTES} bytes, but got {size} instead."
        raise invalid(path, message, code="string_above_max_length")
    return text


def _variable(value: Any, path: str) -> Any:
    if isinstance(value, list):
        if len(value) > MAX_LIST:
            message = f"array too long. Expected an array with maximum length {MAX_LIST}, but got {len(value)}."
            raise invalid(path, message, code="array_above_max_length")
        return [_scalar(each, f"{path}[{index}]") for index, each in enumerate(value)]
    return _scalar(value, path)


def _scalar(value: Any, path: str) -> Any:
    if isinstance(value, list | dict):
        raise wrong_type(path, expected="a plain value or a flat array of them", value=value)
    return value


_MEMBERS = mapping(
    Field(_variable, {"anyOf": [_KINDS, {"type": "array", "maxItems": MAX_LIST, "items": _KINDS}]}), most=MAX_VARIABLES
)


def _variables(value: Any, path: str) -> dict[str, Any]:
    if isinstance(value, dict) and (hidden := next((name for name in value if name in ARGUMENTS), None)) is not None:
        message = f"'{path}.{hidden}' is not supported: '{hidden}' is no variable of a chat template."
        raise UnsupportedParameter(message, param=f"{path}.{hidden}")
    if isinstance(value, dict) and len(encode(value)) > MAX_VARIABLES_BYTES:
        message = f"too long. Expected at most {MAX_VARIABLES_BYTES} bytes of JSON."
        raise invalid(path, message, code="string_above_max_length")
    members: dict[str, Any] = _MEMBERS.parse(value, path)
    return members


OF_TEMPLATES: dict[str, Field] = {
    GENERATION_PROMPT: BOOLEAN,
    CONTINUE: BOOLEAN,
    TEMPLATE: Field(_template, {"type": "string"}),
    VARIABLES: Field(_variables, _MEMBERS.schema),
}
"""vLLM's fields of this kind."""


def check_continued(fields: Mapping[str, Any]) -> None:
    """Refuse to go on with a message where there is none to go on with, or where another one is to begin."""
    if not fields.get(CONTINUE) or "messages" not in fields:
        return
    if fields.get(GENERATION_PROMPT):
        raise invalid(CONTINUE, f"it can't be used with '{GENERATION_PROMPT}'.")
    last = fields["messages"][-1]
    if last.role != "assistant" or not last.text.strip() or last.tool_calls or last.function_call is not None:
        raise invalid(CONTINUE, "the last message has to be one of the assistant, with text and without calls.")
