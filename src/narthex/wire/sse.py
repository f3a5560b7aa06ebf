"""Server-sent events: bytes in any pieces to events, and events to bytes. No I/O.

Source: WHATWG HTML, section 9.2.6 "Interpreting an event stream".

Strategy: line ends are normalised to LF as they arrive, so an event ends at the first LF LF whatever the peer writes.
Only the new bytes are searched for it; an event that is one `data: ` line, as nearly all are, is cut out without
looking at its lines.
"""

import msgspec

from narthex.core.errors import UpstreamProtocolError

PING = b": ping\n\n"
"""A comment: keeps a connection alive and is skipped by every decoder."""

MAX_EVENT_BYTES = 16 * 1024 * 1024

_LF = 10
_BOM = b"\xef\xbb\xbf"


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event. `data`: its data lines joined by LF; `name`: of its last `event` line, b"" for none."""

    data: bytes
    name: bytes = b""


class SseDecoder:
    """Decodes one stream. Comments, `id`, `retry` and unknown fields are skipped; an event without data is none."""

    __slots__ = ("_after_cr", "_at_start", "_max_event_bytes", "_pieces", "_size")

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._pieces: list[bytes] = []
        self._size = 0
        self._after_cr = False
        self._at_start = True

    @property
    def pending(self) -> bool:
        """Whether an event has begun and not ended. The standard says to discard it when the stream ends here."""
        return any(piece.strip(b"\n") for piece in self._pieces)

    def alone(self, data: bytes) -> bytes | None:
        """What `feed` would find in bytes that are one event in one line, as nearly all come; None: feed them.

        Raises:
            UpstreamProtocolError: as `feed`.
        """
        whole = data[-2:] == b"\n\n" and data[:6] == b"data: " and data.count(b"\n") == 2 and b"\r" not in data
        if not whole or self._pieces or self._after_cr:
            return None
        self._at_start = False
        if len(data) > self._max_event_bytes:
            self._check(len(data) - 2)
        return data[6:-2]

    def feed(self, data: bytes) -> list[Event]:
        """The events that end within `data`.

        Raises:
            UpstreamProtocolError: an event is longer than `max_event_bytes`. The decoder is of no use after that.
        """
        if (alone := self.alone(data)) is not None:
            return [Event(alone)]
        if self._after_cr or b"\r" in data:
            data = self._normalise(data)
        if not data:
            return []
        pieces = self._pieces
        if pieces:
            ends = b"\n\n" in data or (data[0] == 10 and pieces[-1][-1] == 10)
            pieces.append(data)
            self._size += len(data)
            if not ends:
                self._check(self._size)
                return []
            data = b"".join(pieces)
            pieces.clear()
        self._size = 0
        return self._split(data)

    def _split(self, data: bytes) -> list[Event]:
        end = data.rfind(b"\n\n")
        rest = data if end < 0 else data[end + 2 :]
        if rest:
            self._pieces.append(rest)
            self._size = len(rest)
            self._check(self._size)
        if end < 0:
            return []
        block = data[:end]
        if self._at_start:
            self._at_start = False
            block = block.removeprefix(_BOM)
        events = []
        too_long_possible = end > self._max_event_bytes
        for part in block.split(b"\n\n"):
            if too_long_possible:
                self._check(len(part))
            if part[:6] == b"data: " and b"\n" not in part:
                events.append(Event(part[6:]))
            elif (event := _event(part)) is not None:
                events.append(event)
        return events

    def _normalise(self, data: bytes) -> bytes:
        if self._after_cr and data:
            data = data.removeprefix(b"\n")  # the second half of a CR LF that was cut between two pieces
            self._after_cr = False
        if data:
            self._after_cr = data[-1] == 13
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _check(self, size: int) -> None:
        if size > self._max_event_bytes:
            raise UpstreamProtocolError("The model's server sent an event that is too long.")


def _event(part: bytes) -> Event | None:
    """The event that the lines of `part` make, if they hold data."""
    name = b""
    data: list[bytes] = []
    for line in part.split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ")
    return Event(b"\n".join(data), name) if data else None


def encode(data: bytes, name: bytes = b"") -> bytes:
    """One event as bytes. Line ends within `data` become further data lines; `name` must have none."""
    if b"\n" in data or b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\ndata: ")
    if name:
        return b"event: %b\ndata: %b\n\n" % (name, data)
    return b"data: %b\n\n" % data
