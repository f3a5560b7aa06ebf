"""From the bytes of a request to its checked fields: what every `/v1` dialect does first.

Source: contract sections 1.9 and 8.2.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from narthex.core.ports import Surface
from narthex.dialects import profiles
from narthex.dialects.fields import Field, parse_fields, refuse_unknown
from narthex.wire import json


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """`fields`: those that are set, parsed. `sent`: the same as JSON, the caller's own bytes where there are any.

    `ignored`: unknown names that a lenient key let pass.
    """

    fields: dict[str, Any]
    sent: dict[str, msgspec.Raw]
    ignored: tuple[str, ...]


class Form:
    """The fields that a surface knows, extensions last, and which of them it requires."""

    def __init__(
        self,
        surface: Surface,
        fields: Mapping[str, Field],
        required: Sequence[str],
        *,
        extensions: Mapping[str, Field] | None = None,
    ) -> None:
        further = {name: field for name, field in (extensions or {}).items() if name not in fields}
        self.known: Mapping[str, Field] = {**fields, **further}
        self._surface = surface
        self._required = required

    def read(self, body: bytes, *, profile: str, strict: bool) -> Body:
        """Check each field for itself.

        Raises:
            RequestError: names the field at fault.
        """
        raw = json.top_level(body)
        ignored = refuse_unknown(raw, self.known, strict=strict)
        values = {name: json.value(each) for name, each in raw.items() if name in self.known}
        fields = parse_fields(values, self.known, required=self._required)
        profiles.tighten(profile, self._surface, fields, values)
        defaults = {name for name, value in fields.items() if value is not None and values.get(name) is None}
        sent = {name: _raw(value) if name in defaults else raw[name] for name, value in fields.items()}
        return Body(fields=fields, sent=sent, ignored=ignored)


def _raw(default: Any) -> msgspec.Raw:
    return msgspec.Raw(json.encode(default))
