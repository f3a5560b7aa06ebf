"""One HTTP request of ours, from its route to its answer: who asks, its id, and what its answer's head will say."""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import TracebackType
from typing import Any, Protocol

from narthex.core.errors import Draining, InvalidRequest, MethodNotAllowed, NarthexError
from narthex.core.keys import Principal
from narthex.dialects import scale_errors, thyris_errors
from narthex.dialects.openai_errors import error_body
from narthex.http.asgi import (
    DIRECT,
    JSON,
    ON_LOST,
    CallerLeft,
    Direct,
    Headers,
    OnLost,
    Receive,
    Rest,
    Scope,
    Send,
    read_body,
    too_large,
)
from narthex.wire.json import TOO_DEEP

RETRY_WHILE_DRAINING_S = 5
_RETRIED = frozenset((408, 409, 429))
"""Statuses below 500 after which the official clients ask again."""
NATIVE = "/api/"
"""Below this path errors are texts (contract 3.1)."""
SCALE = "/v4/"
"""Below this one they are a text and an object (contract 4.7)."""
_VERSION = (b"openai-version", b"2020-10-01")
_NONE: dict[str, Any] = {}
_ANSWER = b"\r\n".join(
    (
        b"%b: %b" % JSON,
        b"content-length: %d",
        b"%bx-request-id: %b",
        b"openai-processing-ms: %d",
        b"%b: %b" % _VERSION,
    )
)
"""The head of an answer in JSON, by its length, further lines, the request's id and how many milliseconds it took."""


class Cuttable(Protocol):
    """What runs until it is cut."""

    def end(self, reason: Exception) -> None:
        """End it with this."""
        ...


def fault_of(error: Exception) -> NarthexError:
    """What a caller is told of an error that nobody foresaw: ours, but where something is nested as deeply as JSON may
    be, which is deeper than whoever looks at it next can follow.
    """
    return InvalidRequest(TOO_DEEP) if isinstance(error, RecursionError) else NarthexError()


class Exchange:
    """A request and its answer. `status` is what was sent, or 0 before anything was; `ended`: its last byte is out.

    `method` is in capitals; `headers` are as sent, with names in lower case.
    """

    principal: Principal | None = None
    route = ""
    parameters: Mapping[str, str] = {}
    status = 0
    ended = False
    _is_cut = False
    _cuttable: Cuttable | None = None

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        request_id: str,
        task: asyncio.Task[Any] | None = None,
    ) -> None:
        """`task`: the one that answers, if it is at hand."""
        self.scope = scope
        self.method: str = scope["method"]
        self.headers: Headers = scope["headers"]
        self.receive = receive
        self.request_id = request_id
        self.started_s = time.monotonic()
        self.facts: dict[str, Any] = {}
        """What the access log is to tell besides."""
        self.told: Callable[[], Headers] = list
        """Further lines of the answer's head, whichever answer it will be; asked for when it is sent."""
        extensions = scope.get("extensions", _NONE)
        self.on_lost: OnLost | None = extensions.get(ON_LOST)
        """Tells of the caller's leaving, where the server can."""
        self.direct: Direct | None = extensions.get(DIRECT)
        """The caller's end without messages, where the server has one."""
        self.named = dict(reversed(self.headers)) if self.direct is None else self.direct.named
        """The first header of each name."""
        self._send = send
        self._task = task

    def served_by(self, task: asyncio.Task[Any] | None) -> None:
        """From now on."""
        self._task = task

    def go_on(self, rest: Rest) -> None:
        """See `Direct`. Only where a `Direct` serves it."""
        assert self.direct is not None  # noqa: S101 - nobody else begins without a task
        self.direct.go_on(rest)

    @property
    def caller(self) -> Principal:
        """Who asks, on a route that is not open: the application authenticates before it calls an endpoint."""
        assert self.principal is not None  # noqa: S101 - see above
        return self.principal

    @property
    def task(self) -> asyncio.Task[Any]:
        """The one that answers, and uses this."""
        if self._task is None:
            self._task = asyncio.current_task()
        assert self._task is not None  # noqa: S101 - an endpoint always runs in one
        return self._task

    async def body(self, *, limit_bytes: int) -> bytes:
        """The whole body of the request.

        Raises:
            RequestTooLarge: it is, or says it is, longer than the limit.
            CallerLeft: the caller hung up in the middle.
            Draining: it was cut.
        """
        if self.direct is not None and (whole := self.direct.whole()) is not None:
            if len(whole) > limit_bytes:
                raise too_large(limit_bytes)
            return whole
        async with self.until_cut():
            return await read_body(self.receive, self.headers, limit_bytes=limit_bytes)

    @property
    def begun(self) -> bool:
        """Whether the answer's head is out: from then on an error can only be an event."""
        return self.status != 0

    def cut(self) -> None:
        """The time to drain is over: end what runs `until_cut`, now and later."""
        self._is_cut = True
        if self._cuttable is not None:
            self._cuttable.end(_cut())

    def cuttable(self, block: Cuttable | None) -> None:
        """A block begins that may be cut, or has ended."""
        self._cuttable = block
        if block is not None and self._is_cut:
            asyncio.get_running_loop().call_soon(block.end, _cut())

    def until_cut(self, *, or_left: bool = False) -> "_UntilCut":
        """Run a block that `cut` ends, so that the caller can still be told why.

        `or_left`: the caller's leaving ends it too, where the server tells of it (`on_lost`).

        Raises:
            Draining: it was cut.
            CallerLeft: they have left.
        """
        return _UntilCut(self, self.on_lost if or_left else None)

    async def begin(self, status: int, headers: Headers) -> None:
        """Send the head of the answer."""
        headers = self._begun(status, headers)
        if self.direct is not None:
            self.direct.begin(status, headers)
        else:
            await self._send({"type": "http.response.start", "status": status, "headers": headers})

    def begin_stream(self, direct: Direct, headers: Headers) -> None:
        """Send the head of an answer of status 200 to the caller's own end, and tell the access log when that was."""
        self.facts["first_s"] = round(time.monotonic() - self.started_s, 4)
        direct.begin(200, self._begun(200, headers))

    def _begun(self, status: int, headers: Headers) -> Headers:
        """All of the head."""
        self.status = status
        elapsed_ms = int((time.monotonic() - self.started_s) * 1000)
        return [
            *headers,
            *self.told(),
            (b"x-request-id", self.request_id.encode()),
            (b"openai-processing-ms", b"%d" % elapsed_ms),
            _VERSION,
        ]

    def pass_on(self, body: bytes) -> bool:
        """Send more of a stream, if nobody has to wait for that. Whether it was sent."""
        direct = self.direct
        if direct is None or direct.clogged or not self.status:
            return False
        direct.write(body, more=True)
        return True

    async def send(self, body: bytes, *, more: bool = True) -> None:
        """Send more of the body. Waits while the caller reads too slowly."""
        self.ended = not more
        direct = self.direct
        if direct is None:
            await self._send({"type": "http.response.body", "body": body, "more_body": more})
            return
        if direct.clogged:
            await direct.unclogged()
        direct.write(body, more=more)

    async def reply(self, status: int, body: bytes, headers: Headers | None = None) -> None:
        """Send a whole answer."""
        length = (b"content-length", b"%d" % len(body))
        await self.begin(status, [JSON, length] if headers is None else [*headers, length])
        await self.send(body, more=False)

    def answer(self, body: bytes) -> bool:
        """Send a whole answer of status 200, if nobody has to wait for that. Whether it was sent."""
        direct = self.direct
        if direct is None or direct.clogged:
            return False
        lines = _lines(tuple(self.told()))
        if lines is None:
            return False
        self.status, self.ended = 200, True
        elapsed_ms = int((time.monotonic() - self.started_s) * 1000)
        head = _ANSWER % (len(body), lines, self.request_id.encode(), elapsed_ms)
        direct.answer(head, body)
        return True

    async def done(self) -> None:
        """Answer 204: what was asked for is done, and there is nothing to say. Such an answer tells no length."""
        await self.begin(204, [])
        await self.send(b"", more=False)

    def note(self, error: NarthexError) -> None:
        """Have the access log tell of an error."""
        told = {"error": type(error).__name__, "code": error.code, "param": error.param}
        self.facts |= {name: value for name, value in told.items() if value is not None}

    async def fail(self, error: NarthexError, *, profile: str = "openai", close: bool = False) -> None:
        """Answer with an error's status, body and headers."""
        headers: Headers = [JSON]
        if error.retry_after_s is not None:
            headers.append((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after_s))))
        if _is_final(error):
            headers.append((b"x-should-retry", b"false"))
        if isinstance(error, MethodNotAllowed):
            headers.append((b"allow", ", ".join(error.allow).encode()))
        if error.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if close:
            headers.append((b"connection", b"close"))
        self.note(error)
        path = f"{self.scope['path']}/"
        if path.startswith(NATIVE):
            body = thyris_errors.error_body(error)
        elif path.startswith(SCALE):
            body = scale_errors.error_body(error)
        else:
            body = error_body(error, profile=profile)
        await self.reply(error.status, body, headers)


def _is_final(error: NarthexError) -> bool:
    """Whether clients would send the same again by themselves (contract 1.1), and it would end the same.

    What a fault of ours does the next time, nobody knows.
    """
    again = error.status >= 500 or error.status in _RETRIED
    return again and not error.retryable and type(error) is not NarthexError


@lru_cache(1000)
def _lines(told: tuple[tuple[bytes, bytes], ...]) -> bytes | None:
    """As they are written; None: one has a line end within."""
    lines = b"".join([b"%b: %b\r\n" % pair for pair in told])
    return lines if lines.count(b"\n") == lines.count(b"\r") == len(told) else None


def _cut() -> Draining:
    return Draining(retry_after_s=RETRY_WHILE_DRAINING_S)


class _UntilCut:
    """See `Exchange.until_cut`. As `asyncio.timeout`, but without a clock."""

    __slots__ = ("_before", "_exchange", "_on_lost", "_reason", "_task")

    def __init__(self, exchange: Exchange, on_lost: OnLost | None) -> None:
        self._exchange = exchange
        self._on_lost = on_lost
        self._reason: Exception | None = None

    def end(self, reason: Exception) -> None:
        """End the block with this, once."""
        if self._reason is None:
            self._reason = reason
            self._task.cancel()

    async def __aenter__(self) -> None:
        self._task = self._exchange.task
        self._before = self._task.cancelling()
        self._exchange.cuttable(self)
        if self._on_lost is not None:
            self._on_lost(self._left)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exchange.cuttable(None)
        if self._on_lost is not None:
            self._on_lost(None)
        if self._reason is None:
            return
        if kind is asyncio.CancelledError:
            if self._task.uncancel() <= self._before:  # else somebody else wants this task to end as well
                raise self._reason from None
        elif self._task.cancelling() > self._before:  # just as the block ended: take the cancellation under way
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
            if self._task.uncancel() > self._before:
                raise asyncio.CancelledError

    def _left(self) -> None:
        self.end(CallerLeft())
