"""What is said of one operation in `/openapi.json`."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from narthex.core.capabilities import Capabilities, Limited, State
from narthex.dialects.fields import Field, nullable
from narthex.http.openapi_answers import Schema

MODEL_CALL = (403, 404, 413, 415, 429, 502, 504)
"""Statuses of whatever asks a model."""


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method of one route. `answer` names a schema; "" where `media` is no JSON. `errors`: besides the usual."""

    id: str
    summary: str
    answer: str = ""
    media: str = "application/json"
    events: str = ""
    named_events: tuple[str, ...] = ()
    """The names of the events, where they have names; such a stream ends without a mark."""
    marked: bool = True
    """A stream of events without names ends with `[DONE]`."""
    error: str = "Error"
    """The schema of an error in a stream."""
    names_errors: bool = False
    """Such an error is an event of the name `error`, while the others have none."""
    body: Schema | None = None
    body_media: str = "application/json"
    asks_model: bool = False
    """The answer's head tells which deployment answered."""
    succeeds: tuple[int, ...] = (200,)
    """Its statuses; 204 has no body."""
    query: Mapping[str, str] = {}
    """What may stand in the query, with what each means."""
    query_schemas: Mapping[str, Schema] = {}
    """Of those that are not just texts."""
    grant: str = ""
    """The grant that it asks for, where that is not its route's."""
    errors: tuple[int, ...] = ()
    unready: str = ""
    """The schema of a 503 that is no error body."""


def body_schema(
    fields: Mapping[str, Field],
    required: tuple[str, ...],
    *,
    honoured: Capabilities,
    dependent: Iterable[str] = (),
    by_some: Mapping[str, str] | None = None,
) -> Schema:
    """The schema of a request: exactly what the decoder takes, with what the embedded models make of each field.

    `by_some`: which of the models honour a field that not all of them do.
    """
    some = {name: f"Honoured by {which}; refused else." for name, which in (by_some or {}).items()}
    properties = {
        name: _described(field if name in required else nullable(field), some.get(name) or _depends(honoured.get(name)))
        for name, field in fields.items()
    }
    properties |= {name: {"description": _depends(honoured.get(name))} for name in dependent if name not in fields}
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def _described(field: Field, description: str) -> Schema:
    return field.schema | {"description": description} if description else field.schema


def _depends(rule: Any) -> str:
    if rule is State.NATIVE or rule is State.EMULATED:
        return ""
    if rule is State.NO_EFFECT:
        return "Accepted without effect by embedded models, and then named in `x-narthex-ignored`."
    if isinstance(rule, Limited):
        refused = "Depends on the model: embedded models refuse some values with 400 `unsupported_value`"
        return f"{refused}; limits: {rule.limits}."
    return "Depends on the model: embedded models refuse it with 400 `unsupported_parameter`."
