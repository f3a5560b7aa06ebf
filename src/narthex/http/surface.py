"""The endpoint of a dialect: read, decode, run through the policies, and write what comes, whole or as a stream."""

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import lru_cache, partial

import structlog

from narthex.core.embeddings import EmbeddingsRequest
from narthex.core.errors import NarthexError, UpstreamProtocolError
from narthex.core.memory import STRATEGY
from narthex.core.ports import Call, Dialect, Handler, Stream, StreamEncoder
from narthex.core.stream import Frame, OutOfOrder
from narthex.http.asgi import (
    EVENTS,
    JSON,
    CallerLeft,
    Headers,
    Rest,
    ended_by_hangup,
    refuse_foreign_media,
    too_large,
)
from narthex.http.errand import Errand, Prompter
from narthex.http.exchange import Exchange, fault_of
from narthex.http.keeping import Keeping, Noted
from narthex.http.passing import StreamErrand, note_usage
from narthex.http.routes import Over
from narthex.http.sink import CallersSink, Pings, next_frame
from narthex.policy.auth import authorize, authorize_model
from narthex.policy.memory import remember

log = structlog.get_logger(__name__)

PING_AFTER_S = 15.0
LARGE_BYTES = 256 * 1024
"""A body beyond that may take longer to read than others should wait: up to a quarter of a second for each megabyte."""
_LONGEST_HEADER = 4096  # bytes
STREAM_HEADERS: Headers = [EVENTS, (b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]


class ModelSurface:
    """Serves one dialect. `clock` gives unix seconds, for `created`."""

    def __init__(
        self,
        dialect: Dialect,
        handler: Handler,
        *,
        clock: Callable[[], float],
        body_limit_bytes: int,
        lenient: bool,
        ping_after_s: float = PING_AFTER_S,
        prompter: Prompter | None = None,
        keeping: Keeping | None = None,
    ) -> None:
        """`prompter`: asks without a task where it can, what `handler` would ask. `keeping`: stores answers."""
        self._dialect = dialect
        self._handler = handler
        self._clock = clock
        self._body_limit_bytes = body_limit_bytes
        self._lenient = lenient
        self._ping_after_s = ping_after_s
        self._prompter = prompter
        self._keeping = keeping
        self._one_large = asyncio.Semaphore(1)

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one request. Errors before the answer's head are raised; later ones become events."""
        self._authorize(exchange)
        body = [await exchange.body(limit_bytes=self._body_limit_bytes)]
        if len(body[0]) > LARGE_BYTES:
            await self._large(exchange, body)
        else:
            await self._rest(exchange, self._call(exchange, body.pop()))

    def begin(self, exchange: Exchange, body: bytes, *, over: Over) -> Rest | None:
        """See `Begins`."""
        self._authorize(exchange)
        if len(body) > self._body_limit_bytes:
            raise too_large(self._body_limit_bytes)
        if len(body) > LARGE_BYTES:
            return partial(self._large, exchange, [body])
        call = self._call(exchange, body)
        if self._prompter is not None and self._keeper(call) is None:
            errand: Errand | StreamErrand = (
                StreamErrand(exchange, call, over=over, starts=self._started, goes_on=self._stream)
                if _streams(call)
                else Errand(exchange, call, over=over, answered=self._answered, waits=self._whole)
            )
            if errand.begin(self._prompter):
                return None
        return partial(self._rest, exchange, call)

    async def _large(self, exchange: Exchange, body: list[bytes]) -> None:
        """Answer a request that takes long to read: beside the loop, one after the other, and not kept any longer."""
        async with exchange.until_cut(or_left=True):
            await self._one_large.acquire()
            reading = asyncio.get_running_loop().run_in_executor(None, lambda: self._call(exchange, body.pop()))
            reading.add_done_callback(self._was_read)
            call = await asyncio.shield(reading)  # a thread reads to the end, whoever has left
        await self._rest(exchange, call)

    def _was_read(self, reading: "asyncio.Future[Call]") -> None:
        self._one_large.release()
        if not reading.cancelled():
            reading.exception()  # nobody may be left who asks what was wrong with it

    def _authorize(self, exchange: Exchange) -> None:
        authorize(exchange.caller, surface=self._dialect.surface)
        if exchange.named.get(b"content-type") != JSON[1] or b"content-encoding" in exchange.named:
            refuse_foreign_media(exchange.headers)

    def _call(self, exchange: Exchange, body: bytes) -> Call:
        principal = exchange.caller
        strict = principal.key.strict and not self._lenient
        decoded = self._dialect.decode(body, profile=principal.key.profile, strict=strict)
        authorize_model(principal, decoded.request.model)
        call = Call(
            decoded.request,
            id=exchange.request_id.removeprefix("req_"),
            surface=self._dialect.surface,
            principal=principal,
            started_s=exchange.started_s,
        )
        call.ignored += decoded.ignored
        if STRATEGY in decoded.request.fields:
            remember(call)
        exchange.told = partial(_told, call)
        exchange.facts["model"] = decoded.request.model
        return call

    def _keeper(self, call: Call) -> Keeping | None:
        """What stores the answer; None where nobody wants that."""
        keeping = self._keeping
        return keeping if keeping is not None and call.request.fields.get("store") else None

    async def _rest(self, exchange: Exchange, call: Call) -> None:
        if (keeper := self._keeper(call)) is not None:
            await keeper.make_room(call)
        answer = partial(self._stream if _streams(call) else self._whole, self._handler)
        if exchange.on_lost is not None:
            await answer(exchange, call)
        else:
            async with ended_by_hangup(exchange.receive, answered=lambda: exchange.ended):
                await answer(exchange, call)

    async def _whole(self, handler: Handler, exchange: Exchange, call: Call) -> None:
        async with exchange.until_cut(or_left=True), handler(call) as frames:
            exchange.facts["deployment"] = call.deployment
            held = [frame async for frame in frames]
        body = self._answered(exchange, call, held)
        if (keeper := self._keeper(call)) is not None:
            await keeper.keep(call, body)
        await exchange.reply(200, body)

    def _answered(self, exchange: Exchange, call: Call, frames: Sequence[Frame]) -> bytes:
        for frame in frames:
            if frame.usage is not None:
                note_usage(exchange, frame.usage)
        try:
            return self._dialect.encode_answer(call, frames, created=int(self._clock()))
        except OutOfOrder as error:
            raise UpstreamProtocolError from error

    def _started(self, exchange: Exchange, call: Call) -> CallersSink:
        """What a stream is written to that is begun without a task."""
        exchange.facts["deployment"] = call.deployment
        encoder = self._dialect.encoder(call, created=int(self._clock()))
        pings = Pings(exchange, every_s=self._ping_after_s / 2, sends=self._pings(call))
        assert exchange.direct is not None  # noqa: S101 - nobody else begins without a task
        return CallersSink(exchange, exchange.direct, encoder, pings=pings.__enter__(), head=self._head(call))

    async def _stream(
        self, handler: Handler, exchange: Exchange, call: Call, *, encoder: StreamEncoder | None = None
    ) -> None:
        """`encoder`: has begun to write it."""
        keeper, created = self._keeper(call), 0
        noted: Noted | None = None
        try:
            async with exchange.until_cut(or_left=True), handler(call) as frames:
                exchange.facts["deployment"] = call.deployment
                # Not before: what it writes tells who answers.
                created = int(self._clock())
                encoder = encoder or self._dialect.encoder(call, created=created)
                noted = None if keeper is None else Noted(frames)
                await self._frames(exchange, call, noted or frames, encoder=encoder)
            end = encoder.end()
            if keeper is not None and noted is not None:
                # What was spoken is long.
                answer = await asyncio.to_thread(self._dialect.encode_answer, call, noted.frames, created=created)
                await keeper.keep(call, answer)
            if not exchange.begun:
                await exchange.begin(200, self._head(call))
            await exchange.send(end, more=False)
        except CallerLeft:
            raise
        except OutOfOrder as error:
            await self._broken(exchange, encoder, UpstreamProtocolError(), cause=error)
        except NarthexError as error:
            await self._broken(exchange, encoder, error, cause=error)
        except Exception as error:  # noqa: BLE001 - a fault of ours must still end the stream with an error
            await self._broken(exchange, encoder, fault_of(error), cause=error)

    async def _frames(self, exchange: Exchange, call: Call, frames: Stream, *, encoder: StreamEncoder) -> None:
        with Pings(exchange, every_s=self._ping_after_s / 2, sends=self._pings(call)) as pings:
            direct = exchange.direct
            callers = (
                None if direct is None else CallersSink(exchange, direct, encoder, pings=pings, head=self._head(call))
            )
            sink = None
            while (frame := await next_frame(frames, sink)) is not None:
                if frame.usage is not None:
                    note_usage(exchange, frame.usage)
                if data := encoder.encode(frame):
                    if not exchange.begun:
                        exchange.facts["first_s"] = round(time.monotonic() - exchange.started_s, 4)
                        await exchange.begin(200, self._head(call))
                    pings.due = False
                    if not exchange.pass_on(data):
                        await exchange.send(data)
                    sink = None if frame.finishes else callers

    def _head(self, call: Call) -> Headers:
        """Of a stream's answer."""
        return STREAM_HEADERS

    def _pings(self, call: Call) -> bool:
        """Whether a stream can hold comments."""
        return True

    async def _broken(
        self, exchange: Exchange, encoder: StreamEncoder | None, error: NarthexError, *, cause: Exception
    ) -> None:
        """End a stream with an error: as a status while that is possible, else in band."""
        if encoder is None or not exchange.begun:
            raise error from cause
        exchange.note(error)
        if not error.by_wish:
            log.warning("a stream broke", request_id=exchange.request_id, exc_info=cause)
        if exchange.ended:
            return
        if not (told := encoder.error(error)):
            raise error from cause  # there is no place for it: the connection ends, in the middle of the answer
        await exchange.send(told, more=False)


def _streams(call: Call) -> bool:
    request = call.request
    return not isinstance(request, EmbeddingsRequest) and request.stream


@lru_cache(1000)
def _by(deployment: str, attempts: int) -> Headers:
    headers: Headers = []
    if deployment:
        headers.append((b"x-narthex-deployment", deployment.encode("ascii", "replace")))
    if attempts:
        headers.append((b"x-narthex-attempts", b"%d" % attempts))
    return headers


def _told(call: Call) -> Headers:
    """What the answer's head tells of how the call was served, as far as it got."""
    headers = list(_by(call.deployment, len(call.attempts)))
    if call.ignored:
        # The names are the caller's own words: no control character of theirs may end the header.
        named = ", ".join(dict.fromkeys(call.ignored)).encode("unicode_escape")
        headers.append((b"x-narthex-ignored", named[:_LONGEST_HEADER]))
    if call.forgotten:
        headers.append((b"x-narthex-forgotten", b"%d" % call.forgotten))
    return headers
