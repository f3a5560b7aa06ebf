"""From the bytes of a request to its checked fields: what every `/v1` dialect does first.

Source: contract sections 1.9 and 8.2.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import msgspec
from msgspec import UNSET

from narthex.core.ports import Surface
from narthex.dialects import profiles
from narthex.dialects.fields import Field, Schema, missing, refuse_unknown
from narthex.wire import json
from narthex.wire.json import UNREADABLE


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
        self._required_names = frozenset(required)
        quick = {name: field.quick for name, field in self.known.items() if field.quick is not None}
        self._quick = quick.keys()
        self._built = [(name, each.built) for name, each in quick.items() if each.built is not None]
        self._whole = frozenset(name for name, field in self.known.items() if _holds_integers(field.schema))
        kinds = {name: each.kind for name, each in quick.items()}
        self._decode = msgspec.json.Decoder(TypedDict("Quick", kinds, total=False)).decode  # type: ignore[operator]

    def read(self, body: bytes, *, profile: str, strict: bool) -> Body:
        """Check each field for itself.

        Raises:
            RequestError: names the field at fault.
        """
        raw = json.top_level(body)
        ignored = refuse_unknown(raw, self.known, strict=strict)
        if not self._required_names <= raw.keys():
            raise missing(next(name for name in self._required if name not in raw))
        narrow = profiles.row(profile, self._surface)
        fields = self._at_once(body, raw) if narrow is None else None
        values: dict[str, Any] = {}
        if fields is None:
            values, fields = self._parsed(raw, quickly=narrow is None)
        defaults = {} if narrow is None else profiles.tighten(narrow, fields, values, profile=profile)
        sent = raw if len(fields) == len(raw) else {name: raw[name] for name in fields}
        for name in values:
            if name in self._whole and name in fields and _has_decimals(values[name]):  # 1.0 is 1, but not everywhere
                sent[name] = msgspec.Raw(json.encode(fields[name]))
        if defaults:
            fields |= defaults
            sent |= {name: msgspec.Raw(json.encode(value)) for name, value in defaults.items()}
        return Body(fields=fields, sent=sent, ignored=ignored)

    def _at_once(self, body: bytes, raw: Mapping[str, msgspec.Raw]) -> dict[str, Any] | None:
        """All fields, parsed, if each is of its most usual form; None: they are to be read one by one."""
        if not raw.keys() <= self._quick:
            return None
        try:
            fields: dict[str, Any] = self._decode(body)
        except UNREADABLE:
            return None
        for name, built in self._built:
            if name in fields and (found := built(fields[name])) is not None:
                fields[name] = found
            elif name in fields:
                return None
        return fields

    def _parsed(self, raw: Mapping[str, msgspec.Raw], *, quickly: bool) -> tuple[dict[str, Any], dict[str, Any]]:
        """The values of the known fields, but for those that were read `quickly`; and all that are set, parsed."""
        values, fields = {}, {}
        for name, each in raw.items():
            field = self.known.get(name)
            if field is None:
                continue
            if quickly and field.quick is not None:
                try:
                    found = field.quick.read(each)
                except UNREADABLE:  # it takes the long way, which says what is wrong with it
                    found = None
                if found is not None:
                    fields[name] = found
                    continue
            value = values[name] = json.value(each)
            # Null counts as absent unless the field is required and takes it.
            if (value is not None or name in self._required) and (found := field.parse(value, name)) is not UNSET:
                fields[name] = found
        return values, fields


def _holds_integers(schema: Schema) -> bool:
    """Whether values are integers, or flat collections of them."""
    items = schema.get("items", schema.get("additionalProperties"))
    return schema.get("type") == "integer" or (isinstance(items, dict) and items.get("type") == "integer")


def _has_decimals(value: Any) -> bool:
    if isinstance(value, list | dict):
        return any(isinstance(each, float) for each in (value if isinstance(value, list) else value.values()))
    return isinstance(value, float)
