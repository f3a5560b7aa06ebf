"""A stream that is handed over says what it says when each of its frames is asked for, however its bytes are cut."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httptools
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.relayed_chunks import ENDS, STARTS, USAGE, alike
from tests.scripted_deployment import principal
from typing_extensions import override

from narthex.core.errors import NarthexError
from narthex.core.ports import Call
from narthex.core.stream import Frame, Pulse, Splice
from narthex.dialects.openai_chat import ChatDialect
from narthex.providers.openai_codec import OpenAIChat
from narthex.testing.scripted import chunked, stream_head
from narthex.upstream.client import UpstreamResponse
from narthex.upstream.connection import Connection
from narthex.upstream.remote import RemoteDeployment
from narthex.wire import sse

pytestmark = pytest.mark.anyio

CORPUS = Path(__file__).parents[2] / "corpus" / "openai"


class Wire(asyncio.Transport):
    """The server's end of a connection, as far as it is looked at."""

    closing = paused = False

    @override
    def is_closing(self) -> bool:
        return self.closing

    @override
    def abort(self) -> None:
        self.closing = True

    @override
    def write(self, data: Any) -> None:
        """It was asked."""

    @override
    def pause_reading(self) -> None:
        self.paused = True

    @override
    def resume_reading(self) -> None:
        self.paused = False


class Reader:
    """A caller's end: what was written there, and by which way. `room`: how often until it is full."""

    def __init__(self, encoder: Any, *, room: int = -1) -> None:
        self.encoder = encoder
        self.written: list[bytes] = []
        self.passed = 0
        self.room = room
        self._parser = httptools.HttpResponseParser(self)
        self._parser.feed_data(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        self.written.append(data)
        self.passed += data.count(b"\n\n")

    def take(self, frame: Frame) -> bool:
        self.written.append(self.encoder.encode(frame))
        return self._has_room()

    def alike(self, frame: Frame) -> Splice | None:
        return self.encoder.alike(frame)

    def pass_on(self, chunk: bytes) -> bool:
        self._parser.feed_data(chunk)
        return self._has_room()

    def _has_room(self) -> bool:
        self.room -= 1
        return self.room != 0


class Served:
    """One call to a server whose bytes are given by hand."""

    def __init__(self, *, idle_s: float | None = None, **fields: Any) -> None:
        self.connection = Connection(asyncio.get_running_loop(), lambda _: None)
        self.wire = Wire()
        self.connection.connection_made(self.wire)
        self.pulse = Pulse()
        body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True, **fields}
        request = ChatDialect().decode(json.dumps(body).encode(), profile="openai", strict=True).request
        self.call = Call(request, id="1", surface="chat", principal=principal(), started_s=0)
        self._idle_s = idle_s
        self._deployment = RemoteDeployment("there", "m", codecs={"chat": OpenAIChat()}, send=self._send)

    @asynccontextmanager
    async def _send(self, method: str, path: str, body: bytes | None = None) -> AsyncIterator[UpstreamResponse]:
        self.connection.begin(b"", b"", no_body=False, first_byte_s=None)
        await self.connection.head()
        try:
            yield UpstreamResponse(self.connection, self._idle_s)
        finally:
            self.connection.end()

    def reader(self, *, room: int = -1) -> Reader:
        return Reader(ChatDialect().encoder(self.call, created=7), room=room)

    async def read(self, reader: Reader, *, relays: bool) -> str:
        """Until the end; the error's class and words, or nothing."""
        try:
            async with self._deployment.open(self.call) as frames:
                async for frame in frames:
                    reader.written.append(reader.encoder.encode(frame))
                    if relays:
                        await frames.hand_over(reader, self.pulse)  # type: ignore[attr-defined]
            reader.written.append(reader.encoder.end())
        except NarthexError as error:
            return f"{type(error).__name__} {error}"
        return ""

    async def give(self, pieces: Iterable[bytes]) -> None:
        """A piece at a time, each of which is looked at before the next."""
        for piece in pieces:
            if self.wire.closing:
                break
            self.connection.data_received(piece)
            for _ in range(4):
                await asyncio.sleep(0)
        self.wire.closing = True
        self.connection.connection_lost(None)


async def heard(pieces: Sequence[bytes], *, relays: bool, room: int = -1, **fields: Any) -> tuple[bytes, str, Reader]:
    """What a caller got, and how it ended."""
    served = Served(**fields)
    reader = served.reader(room=room)
    reading = asyncio.ensure_future(served.read(reader, relays=relays))
    await asyncio.sleep(0)
    await served.give(pieces)
    async with asyncio.timeout(60):
        error = await reading
    return b"".join(reader.written), error, reader


def compare(pieces: Sequence[bytes], *, room: int = -1, **fields: Any) -> Reader:
    """Both ways say the same; what was handed over."""

    async def both() -> Reader:
        *asked, _ = await heard(pieces, relays=False, **fields)
        *handed, reader = await heard(pieces, relays=True, room=room, **fields)
        assert handed == asked
        return reader

    return asyncio.run(both())


HEAD = stream_head()


def raw(events: Iterable[bytes], *, end: bytes = b"0\r\n\r\n") -> list[bytes]:
    """The pieces of a stream, as a server sends them."""
    return [HEAD, *(chunked(sse.encode(each), end=False) for each in events), end]


RECORDED = [
    pytest.param(file.read_bytes(), {"n": 2} if "two" in file.stem else {}, id=file.stem)
    for file in sorted(CORPUS.glob("*.sse"))
]
"""Each stream of the corpus, with the fields that were asked for."""


@pytest.mark.parametrize(("stream", "fields"), RECORDED)
@pytest.mark.parametrize("usage", [False, True])
def test_recorded_streams_say_the_same_event_by_event(stream: bytes, fields: dict[str, Any], usage: bool) -> None:
    events = [part + b"\n\n" for part in stream.split(b"\n\n") if part]
    pieces = [HEAD, *(chunked(each, end=False) for each in events), b"0\r\n\r\n"]
    compare(pieces, **fields, stream_options={"include_usage": usage})


@pytest.mark.parametrize(("stream", "fields"), RECORDED)
def test_recorded_streams_say_the_same_wherever_they_are_cut(stream: bytes, fields: dict[str, Any]) -> None:
    events = [part + b"\n\n" for part in stream.split(b"\n\n") if part]
    whole = b"".join(chunked(each, end=False) for each in events) + b"0\r\n\r\n"
    for at in range(0, len(whole), max(1, len(whole) // 97)):
        compare([HEAD, whole[:at], whole[at:]] if at else [HEAD + whole], **fields)
    compare([HEAD, *(whole[at : at + 7] for at in range(0, len(whole), 7))], **fields)


WORDS = [f"word {number} " for number in range(30)]
SAID = [alike(STARTS), *(alike({"content": word}) for word in WORDS)]
DONE = b"[DONE]"
WHOLE = [*SAID, alike({}, ENDS), alike(usage=USAGE), DONE]


def test_nearly_all_of_a_stream_is_passed_on_unread() -> None:
    reader = compare(raw(WHOLE))
    assert reader.passed == len(WORDS) - 1


def test_what_came_together_leaves_together() -> None:
    first, *rest = raw(WHOLE)
    pieces = [first, *rest[:3], b"".join(rest[3:10]), b"".join(rest[10:])]
    reader = compare(pieces)
    assert reader.passed == len(WORDS) - 1


@pytest.mark.parametrize("room", range(1, 8))
def test_after_a_reader_was_full_it_is_handed_more_again(room: int) -> None:
    reader = compare(raw(WHOLE), room=room)
    assert reader.passed >= len(WORDS) - 3


CANARY = {"message": "sk-canary", "type": "server_error", "code": 500}
ENDINGS: dict[str, list[bytes]] = {
    "cut": raw(SAID, end=b""),
    "ended too early": raw(SAID),
    "no chunk": raw(SAID, end=b"zz\r\n"),
    "an error": raw([*SAID, json.dumps({"error": CANARY}).encode(), *SAID]),
    "no JSON": raw([*SAID, b"<html>"]),
    "broken UTF-8": raw([*SAID, alike({"content": "@"}).replace(b"@", b"\xff")]),
    "an unknown finish": raw([*SAID, alike({}, {"finish_reason": "x"})]),
    "half an event": [*raw(SAID, end=b""), chunked(b'data: {"choices"', end=False)],
    "silence that is filled": [*raw(SAID, end=b""), *[chunked(b": alive\n\n", end=False)] * 3, *raw(WHOLE)[-4:]],
    "text after its finish": raw([*SAID, alike({}, ENDS), alike({"content": "more"}), DONE]),
    "another around": raw([*SAID, *(alike({"content": word}, x=1) for word in "abc"), *WHOLE[-3:]]),
    "no content": raw([*SAID, alike({"content": None}), *SAID[-2:], *WHOLE[-3:]]),
    "escapes": raw([*SAID, *(alike({"content": text}) for text in ('"', "\\", "\n", "\u2028", "],")), *WHOLE[-3:]]),
    "letters in lengths": [
        HEAD, *(b"%X\r\n%b\r\n" % (len(body), body) for body in map(sse.encode, WHOLE)), b"0\r\n\r\n",
    ],
    "no chunks": [b"HTTP/1.1 200 OK\r\n\r\n", *map(sse.encode, WHOLE)],
}  # fmt: skip


@pytest.mark.parametrize("ending", ENDINGS)
def test_however_it_goes_on_both_say_the_same(ending: str) -> None:
    compare(ENDINGS[ending])


_TOLD = st.sampled_from(
    [alike({"content": "a"}), alike({"content": "a longer text"}), alike({"content": '"'}), alike({"content": ""}),
     alike({"reasoning_content": "hm"}), alike({"reasoning_content": "so"}), alike({"content": "b"}, x=1),
     alike({"content": "c"}, x=1), alike({"role": "assistant"}), alike(usage=USAGE),
     alike({"content": "d"}, usage=USAGE),
     alike({"content": "e"}, {"index": 1}), alike({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}),
     alike({"tool_calls": [{"index": 0, "function": {"arguments": '{"a'}}]}), b"{}", alike({}, ENDS), DONE]
)  # fmt: skip


@given(st.lists(_TOLD, max_size=12), st.lists(st.integers(1, 400), min_size=1, max_size=6), st.integers(-1, 5))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example([*SAID[1:6], alike({}, ENDS), DONE], [10_000], 3)
def test_any_stream_says_the_same_in_any_pieces(events: list[bytes], cuts: list[int], room: int) -> None:
    whole = b"".join(raw([SAID[0], *events]))
    pieces, at = [], 0
    while at < len(whole):
        cut = cuts[len(pieces) % len(cuts)]
        pieces.append(whole[at : at + cut])
        at += cut
    compare(pieces, room=room)
    compare(raw([SAID[0], *events]), room=room)


# --- time, and room --------------------------------------------------------------------------------------------------


async def going_on(served: Served, reader: Reader) -> "asyncio.Task[str]":
    """A stream under way, whose pieces are passed on."""
    reading = asyncio.ensure_future(served.read(reader, relays=True))
    await asyncio.sleep(0)
    for piece in raw(SAID, end=b""):
        served.connection.data_received(piece)
        await asyncio.sleep(0)
    while reader.passed < len(WORDS) - 1:
        await asyncio.sleep(0)
    return reading


async def test_what_comes_while_a_reader_is_full_is_held_and_then_the_server_waits() -> None:
    served = Served()
    reader = served.reader()
    reading = await going_on(served, reader)
    reader.room = 1
    flood = chunked(sse.encode(alike({"content": "x" * 1000})), end=False)
    served.connection.data_received(flood)
    for _ in range(300):
        served.connection.data_received(flood)
    assert served.wire.paused
    assert reader.passed == len(WORDS)
    served.connection.data_received(b"".join(raw(WHOLE)[-4:]))
    async with asyncio.timeout(60):
        assert await reading == ""
    assert not served.wire.paused
    assert b"".join(reader.written).count(b"x" * 1000) == 301


async def test_silence_is_noticed() -> None:
    served = Served(idle_s=0.05)
    reading = await going_on(served, served.reader())
    async with asyncio.timeout(60):
        assert (await reading).startswith("UpstreamTimeout")
    assert served.wire.closing


async def test_who_leaves_is_written_nothing_more() -> None:
    served = Served()
    reader = served.reader()
    reading = await going_on(served, reader)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    served.connection.data_received(raw(SAID)[-2])
    assert reader.passed == len(WORDS) - 1
    assert served.wire.closing


async def test_a_fault_of_the_readers_own_ends_it() -> None:
    class Failing(Reader):
        @override
        def take(self, frame: Frame) -> bool:
            raise RuntimeError("no")

    served = Served()
    reader = Failing(ChatDialect().encoder(served.call, created=7))
    reading = asyncio.ensure_future(served.read(reader, relays=True))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError):
        await asyncio.gather(served.give(raw(WHOLE)), reading)


async def test_after_its_finish_nothing_is_handed_over() -> None:
    served = Served()
    reader = served.reader()
    reading = asyncio.ensure_future(served.read(reader, relays=True))
    await asyncio.sleep(0)
    await served.give(raw([SAID[0], alike({}, ENDS), DONE]))
    assert await reading == ""
    assert served.pulse.pieces == 0
