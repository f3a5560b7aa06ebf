"""JSON bodies: decoded one level deep, and checked for what decoders let pass in silence. No I/O.

Source: ARCHITECTURE D1; RFC 8259 section 4 leaves duplicate names undefined, so we refuse them.
"""

import re
from typing import Any

import msgspec

from narthex.core.errors import InvalidRequest

_INT64_MAX = 2**63 - 1
_SPACE = re.compile(rb"[ \t\n\r]*").match
_LONG_NUMBER = re.compile(rb"[0-9]{19}").search
_raw_map = msgspec.json.Decoder(dict[str, msgspec.Raw])
_any = msgspec.json.Decoder()
_text = msgspec.json.Decoder(str)

NOT_JSON = "We could not parse the JSON body of your request. (HINT: it must be one JSON object, encoded as UTF-8.)"


def top_level(body: bytes) -> dict[str, msgspec.Raw]:
    """The top-level fields of a JSON object, each as the bytes that were sent.

    Raises:
        InvalidRequest: not UTF-8, not JSON, no object, a name that comes twice (or only differs by escapes), nesting
            that is too deep, or a number outside of what doubles and 64-bit integers hold.
    """
    try:
        body.decode()
        fields = _raw_map.decode(body)
        _refuse_duplicates(body, fields)
        if _LONG_NUMBER(body):
            for name, raw in fields.items():
                _refuse_huge(value(raw), name)
    except (UnicodeDecodeError, msgspec.DecodeError):
        raise InvalidRequest(NOT_JSON) from None
    except RecursionError:
        raise InvalidRequest("The JSON body is nested too deeply.") from None
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
        raise InvalidRequest("The JSON body is nested too deeply.") from None


def encode(document: Any) -> bytes:
    """JSON bytes of plain objects and Structs."""
    return msgspec.json.encode(document)


def _refuse_duplicates(body: bytes, fields: dict[str, msgspec.Raw]) -> None:
    """Walk the names of the object; a value that is not the one the decoder kept was overwritten by a later one."""
    position = _after_space(body, 0) + 1  # past "{"
    seen: set[str] = set()
    while body[(position := _after_space(body, position)) : position + 1] == b'"':
        name, position = _name(body, position + 1)
        position = _after_space(body, _after_space(body, position) + 1)  # past ":"
        kept = bytes(fields[name])
        if name in seen or not body.startswith(kept, position):
            raise InvalidRequest(f"Duplicate parameter: '{name}'.", param=name)
        seen.add(name)
        position = _after_space(body, position + len(kept)) + 1  # past "," or "}"


def _name(body: bytes, start: int) -> tuple[str, int]:
    """The name that begins after a quote at `start - 1`, and the place after its closing quote."""
    end = body.index(b'"', start)
    plain = body[start:end]
    if b"\\" not in plain:
        return plain.decode(), end + 1
    while _escapes_before(body, end) % 2:
        end = body.index(b'"', end + 1)
    return _text.decode(body[start - 1 : end + 1]), end + 1


def _escapes_before(body: bytes, position: int) -> int:
    count = 0
    while body[position - 1 - count] == 0x5C:
        count += 1
    return count


def _after_space(body: bytes, position: int) -> int:
    found = _SPACE(body, position)
    return found.end() if found else position


def _refuse_huge(document: Any, path: str) -> None:
    """Integers beyond 64 bits, except the documented range of `seed`, which only just passes it (contract 1.2)."""
    if isinstance(document, int) and not isinstance(document, bool):
        if abs(document) > _INT64_MAX + 1000 or (path != "seed" and not -_INT64_MAX - 1 <= document <= _INT64_MAX):
            raise InvalidRequest(f"The number in '{path}' is too large.", param=path)
    elif isinstance(document, dict):
        for name, item in document.items():
            _refuse_huge(item, f"{path}.{name}")
    elif isinstance(document, list):
        for index, item in enumerate(document):
            _refuse_huge(item, f"{path}[{index}]")
