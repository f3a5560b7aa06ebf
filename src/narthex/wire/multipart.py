"""`multipart/form-data`, read piece by piece as it comes. Source: RFC 7578 and RFC 2046 section 5.1.

Rules: no more of a part's content is held than a delimiter is long; whatever the pieces are, the events are the same
but for where contents are cut.
"""

import re
from urllib.parse import unquote_to_bytes

import msgspec

from narthex.core.errors import InvalidRequest

MAX_HEAD_BYTES = 16 * 1024
MAX_PREAMBLE_BYTES = 64 * 1024
MAX_BOUNDARY_CHARS = 70
_PARAMETER = re.compile(rb';[ \t]*([!#-:<>-~]+)=("(?:[^"\\]|\\.)*"|[^;"]*)[ \t]*')
_ESCAPED = re.compile(rb'\\(["\\])')
_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A part begins. `filename`: None where it is a plain field; `media_type` as it was sent, "" where it was not."""

    name: str
    filename: str | None = None
    media_type: str = ""


class Content(msgspec.Struct, frozen=True):
    """More of the part's content."""

    data: bytes


class PartEnd(msgspec.Struct, frozen=True):
    """The part is over."""


Event = Part | Content | PartEnd


def boundary_of(content_type: bytes | None) -> bytes:
    """The boundary that a `Content-Type` header names.

    Raises:
        InvalidRequest: it is not `multipart/form-data`, or names none that could be.
    """
    kind, rest = _split(content_type or b"")
    if kind != b"multipart/form-data":
        raise InvalidRequest("Send files as `multipart/form-data`.")
    boundary = rest.get(b"boundary", b"")
    if _BOUNDARY.fullmatch(boundary) is None:
        raise InvalidRequest("The multipart boundary is missing or can't be one.")
    return boundary


class MultipartDecoder:
    """Reads one body."""

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._held = bytearray(b"\r\n")  # the first delimiter may stand at the very beginning
        self._read = self._preamble
        self._skipped = 0
        self._events: list[Event] = []

    def feed(self, data: bytes) -> list[Event]:
        """What these bytes complete.

        Raises:
            InvalidRequest: this is no such body.
        """
        self._held += data
        while self._read():
            pass
        events, self._events = self._events, []
        return events

    def end(self) -> None:
        """The body is over.

        Raises:
            InvalidRequest: too early.
        """
        if self._read != self._epilogue:
            raise _broken("it ends too early")

    # --- each reads what it can, and tells whether the next should try

    def _preamble(self) -> bool:
        at = self._held.find(self._delimiter)
        spare = at if at >= 0 else max(0, len(self._held) - len(self._delimiter) + 1)
        del self._held[:spare]
        self._skipped += spare
        if self._skipped > MAX_PREAMBLE_BYTES:
            raise _broken("it does not begin with its boundary")
        if at < 0:
            return False
        del self._held[: len(self._delimiter)]
        self._read = self._after_delimiter
        return True

    def _after_delimiter(self) -> bool:
        if len(self._held) < 2:
            return False
        if self._held.startswith(b"--"):
            self._read = self._epilogue
            return True
        at = self._held.find(b"\r\n")
        if at < 0 and len(self._held) <= MAX_HEAD_BYTES:
            return False
        if at < 0 or self._held[:at].strip(b" \t"):
            raise _broken("a boundary is followed by something else")
        del self._held[:at]  # the line's end may be the head's as well
        self._read = self._head
        return True

    def _head(self) -> bool:
        at = self._held.find(b"\r\n\r\n")
        if max(at, 0 if at >= 0 else len(self._held)) > MAX_HEAD_BYTES:
            raise _broken("the head of a part is too long")
        if at < 0:
            return False
        self._events.append(_part(bytes(self._held[2:at])))
        del self._held[: at + 2]  # an empty content's delimiter begins with the head's last line end
        self._begun = False
        self._read = self._content
        return True

    def _content(self) -> bool:
        begin = 0 if self._begun else 2
        at = self._held.find(self._delimiter)
        if at < 0:
            until = len(self._held) - len(self._delimiter) + 1
            if until > begin:
                self._events.append(Content(bytes(self._held[begin:until])))
                del self._held[:until]
                self._begun = True
            return False
        if at > begin:
            self._events.append(Content(bytes(self._held[begin:at])))
        self._events.append(PartEnd())
        del self._held[: at + len(self._delimiter)]
        self._read = self._after_delimiter
        return True

    def _epilogue(self) -> bool:
        self._held.clear()
        return False


def _part(head: bytes) -> Part:
    disposition, media_type = b"", b""
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-disposition":
            disposition = value.strip()
        elif name.strip().lower() == b"content-type":
            media_type = value.strip()
    kind, parameters = _split(disposition)
    if kind != b"form-data" or b"name" not in parameters:
        raise _broken("a part has no name")
    filename = parameters.get(b"filename")
    if (extended := parameters.get(b"filename*")) is not None:
        filename = unquote_to_bytes(extended.split(b"'", 2)[-1])
    return Part(
        name=_text(parameters[b"name"]),
        filename=None if filename is None else _text(filename),
        media_type=media_type.decode("latin-1"),
    )


def _split(value: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """A header's value in lower case, and its parameters."""
    kind, _, rest = value.partition(b";")
    parameters = {}
    for name, found in _PARAMETER.findall(b";" + rest):
        quoted = len(found) > 1 and found.startswith(b'"')
        parameters[name.lower()] = _ESCAPED.sub(rb"\1", found[1:-1]) if quoted else found.strip()
    return kind.strip().lower(), parameters


def _text(value: bytes) -> str:
    """Browsers write quotes and line ends within names percent-encoded, and no other characters."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise _broken("a part's name is not UTF-8") from None
    return text.replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")


def _broken(why: str) -> InvalidRequest:
    return InvalidRequest(f"The multipart body is malformed: {why}.")
