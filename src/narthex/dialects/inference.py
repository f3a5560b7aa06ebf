"""Fields by which a request says how it is to be served: what of the conversation is kept, how long it may take, what
else its model's server is told.

Source: contract sections 4.2, 4.4 and 4.5. Whether it is allowed, the deployment and its settings say.
"""

import re
from collections.abc import Mapping
from typing import Any

from narthex.core.capabilities import TIMEOUT
from narthex.core.extras import HEADERS, PARAMS, header_fault, is_header_value, param_fault
from narthex.core.memory import BUDGET, STRATEGY, LastK
from narthex.dialects.fields import STRING, Field, choice, integer, invalid, missing, number, record, wrong_type

MOST_EXTRAS = 32
DEEPEST_EXTRA = 32
"""Levels of arrays and objects, one in the other."""
_DECIMAL = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?|\.[0-9]{1,9}", re.ASCII)


# --- memory ----------------------------------------------------------------------------------------------------------

_K = integer(1)


def _last_k(values: dict[str, Any], path: str) -> LastK:
    nested: dict[str, Any] = values.get("params", {})
    if "k" in values and nested:
        raise invalid(f"{path}.params", "it can't be used with 'k'.")
    if "k" not in values and not nested:
        raise missing(f"{path}.k")
    return LastK((values | nested)["k"])


MEMORY: dict[str, Field] = {
    STRATEGY: record(
        {"name": choice("last_k"), "k": _K, "params": record({"k": _K}, required=("k",))},
        required=("name",),
        build=_last_k,
    ),
    BUDGET: integer(1),
}
"""How much of the conversation the model is given. Of chats only."""


# --- time ------------------------------------------------------------------------------------------------------------


def _seconds(value: Any, path: str) -> float:
    if isinstance(value, str):
        if not _DECIMAL.fullmatch(value):
            raise invalid(path, "the text is not a decimal number of seconds.")
        value = float(value)
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong_type(path, expected="a decimal or its text", value=value)
    seconds: float = number().parse(value, path)
    if seconds <= 0:
        message = f"decimal below minimum value. Expected a value > 0, but got {value} instead."
        raise invalid(path, message, code="decimal_below_min_value")
    return seconds


_TIMEOUT = Field(
    _seconds,
    {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": f"^({_DECIMAL.pattern})$"}]},
)


# --- what else a server is told --------------------------------------------------------------------------------------


def _members(value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise wrong_type(path, expected="an object", value=value)
    if len(value) > MOST_EXTRAS:
        message = f"too many properties. Expected at most {MOST_EXTRAS}, but got {len(value)}."
        raise invalid(path, message, code="object_above_max_properties")
    return value


def _refused(path: str, name: str, fault: str) -> Exception:
    return invalid(f"{path}.{name[:100]}", f"{fault}.", code="unsupported_parameter")


def _params(value: Any, path: str) -> Mapping[str, Any]:
    for name in _members(value, path):
        if (fault := param_fault(name)) is not None:
            raise _refused(path, name, fault)
        if _is_deep(value[name], DEEPEST_EXTRA):
            raise invalid(f"{path}.{name}", f"it is nested deeper than {DEEPEST_EXTRA} levels.")
    return value  # type: ignore[no-any-return]


def _is_deep(value: Any, levels: int) -> bool:
    if not isinstance(value, list | dict):
        return False
    return levels == 0 or any(
        _is_deep(each, levels - 1) for each in (value if isinstance(value, list) else value.values())
    )


def _headers(value: Any, path: str) -> Mapping[str, str]:
    """By their names in lower case. What is wrong with a value is told without it: it may be a secret."""
    found: dict[str, str] = {}
    for name, each in _members(value, path).items():
        if (fault := header_fault(name)) is not None:
            raise _refused(path, name, fault)
        text: str = STRING.parse(each, f"{path}.{name}")
        if not is_header_value(text):
            raise invalid(f"{path}.{name}", "the value can't be sent in a header: it is empty or no line of ASCII.")
        if name.lower() in found:
            raise invalid(f"{path}.{name}", "it is there twice.")
        found[name.lower()] = text
    return found


_OBJECT = {"type": "object", "maxProperties": MOST_EXTRAS}
INFERENCE: dict[str, Field] = {
    TIMEOUT: _TIMEOUT,
    PARAMS: Field(_params, _OBJECT),
    HEADERS: Field(_headers, _OBJECT | {"additionalProperties": {"type": "string"}}),
}
"""Settings of one request. Of everything that generates text."""
