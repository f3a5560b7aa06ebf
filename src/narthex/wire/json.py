"""JSON bodies: decoded one level deep, and checked for what decoders let pass in silence. No I/O.

Source: ARCHITECTURE D1; RFC 8259 section 4 leaves duplicate names undefined, so we refuse them.
"""

import json
import re
from collections.abc import Iterable
from typing import Any

import msgspec

from narthex.core.errors import InvalidRequest

_INT64_MAX = 2**63 - 1
_SEED_SLACK = 1000
"""How far the documented range of `seed` passes 64 bits, rounded up (contract 1.2); its own check is exact."""

_DIGITS = bytes(0x30 if byte in b"0123456789" else 0x20 for byte in range(256))
_LONG_NUMBER = b"0" * 19
"""The shortest run of digits that may pass 64 bits, in a body that went through `_DIGITS`."""
_STRIDE, _SEEN = 6, b"000"
"""Of each run that long three bytes in a row are among every sixth of the body: these are looked at first."""

_NAME = re.compile(rb'[{,][ \t\n\r]*("(?:[^"\\]+|\\.)*+")[ \t\n\r]*:[ \t\n\r]*').match
_VALUE_END = re.compile(rb"[ \t\n\r]*(?=[,}])").match

_raw_map = msgspec.json.Decoder(dict[str, msgspec.Raw])
_any = msgspec.json.Decoder()
_text = msgspec.json.Decoder(str)

NOT_JSON = "We could not parse the JSON body of your request. (HINT: it must be one JSON object, encoded as UTF-8.)"
TOO_DEEP = "The JSON body is nested too deeply."

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are no JSON, or not of the type that was asked for."""


def top_level(body: bytes) -> dict[str, msgspec.Raw]:
    """The top-level fields of a JSON object, each as the bytes that were sent.

    Raises:
        InvalidRequest: not UTF-8, not JSON, no object, a name that comes twice (or only differs by escapes), nesting
            that is too deep, or an integer outside of 64 bits.
    """
    try:
        if not body.isascii():
            body.decode()
        fields = _raw_map.decode(body)
        if not _is_compact(body, fields):
            _refuse_duplicates(body, fields)
        if _SEEN in body[::_STRIDE].translate(_DIGITS) and _LONG_NUMBER in body.translate(_DIGITS):
            _refuse_huge(fields)
    except (UnicodeDecodeError, msgspec.DecodeError):
        raise InvalidRequest(NOT_JSON) from None
    except RecursionError:
        raise InvalidRequest(TOO_DEEP) from None
    return fields


def value(raw: msgspec.Raw) -> Any:
    """One field's value as plain Python objects.

    Raises:
        InvalidRequest: it can't be decoded.
    """
    try:
        return _any.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidRequest(NOT_JSON) from None
    except RecursionError:
        raise InvalidRequest(TOO_DEEP) from None


def encode(document: Any) -> bytes:
    """JSON bytes of plain objects and Structs."""
    return msgspec.json.encode(document)


def _is_compact(body: bytes, fields: dict[str, msgspec.Raw]) -> bool:
    """Whether the body has just the length of its fields without white space and escapes in their names.

    Nothing was overwritten then: one name more would be longer. Most clients write so, and it is quickly seen.
    """
    names = "".join(fields)
    length = len(names) if names.isascii() else len(names.encode())
    values: Iterable[Any] = map(memoryview, fields.values())
    return len(body) == 1 + 4 * len(fields) + length + sum(map(len, values))


def _refuse_duplicates(body: bytes, fields: dict[str, msgspec.Raw]) -> None:
    """Walk the names of the object; a value that is not the one the decoder kept was overwritten by a later one."""
    position = body.index(b"{")
    seen: set[str] = set()
    while (found := _NAME(body, position)) is not None:
        name = _text.decode(found[1])
        kept = bytes(fields[name])
        end = _VALUE_END(body, found.end() + len(kept))
        # The kept value may be the beginning of the one that stands here: 1 and 12.
        if name in seen or end is None or not body.startswith(kept, found.end()):
            raise InvalidRequest(f"Duplicate parameter: '{name[:100]}'.", param=name[:100])
        seen.add(name)
        position = end.end()


def _refuse_huge(fields: dict[str, msgspec.Raw]) -> None:
    """Integers beyond 64 bits, except the documented range of `seed`, which only just passes it (contract 1.2)."""
    for name, raw in fields.items():
        found = _huge(_whole(raw), _SEED_SLACK if name == "seed" else 0)
        if found is not None:
            path, number = f"{name[:100]}{found[0]}"[:300], found[1]
            code = "integer_above_max_value" if number > 0 else "integer_below_min_value"
            raise InvalidRequest(f"Invalid '{path}': the integer does not fit into 64 bits.", param=path, code=code)


class _Pairs(list[tuple[str, Any]]):
    """The members of an object, also those whose name comes again."""


def _whole(raw: msgspec.Raw) -> Any:
    """A value with all that stands in it: what a later member of the same name hides is sent on as well."""
    return json.loads(bytes(raw), object_pairs_hook=_Pairs, parse_int=_integer)


def _integer(digits: str) -> int:
    """At most so many digits as tell that it is too large: Python refuses to read thousands."""
    return int(digits[:40])


def _huge(document: Any, slack: int = 0) -> tuple[str, int] | None:
    """Where an integer stands that 64 bits don't hold, and what it is. The path is made only for what is found."""
    if isinstance(document, int):
        return None if -_INT64_MAX - 1 - slack <= document <= _INT64_MAX + slack else ("", document)
    items: Iterable[tuple[str, Any]] = ()
    if isinstance(document, _Pairs):
        items = ((f".{name[:100]}", item) for name, item in document)
    elif isinstance(document, list):
        items = ((f"[{index}]", item) for index, item in enumerate(document))
    for step, item in items:
        if (found := _huge(item)) is not None:
            return step + found[0], found[1]
    return None
