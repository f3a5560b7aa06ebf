"""The few ASGI words that our endpoints share: types, bodies in, and a caller who leaves."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from types import TracebackType
from typing import Any

from narthex.core.errors import InvalidRequest, RequestTooLarge, UnsupportedMediaType

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
OnLost = Callable[[Callable[[], None] | None], None]
"""Takes what is to be called when the caller's connection is lost, at once if it is lost already; None: nobody."""
ON_LOST = "narthex.on_lost"
"""The extension of an ASGI scope that holds an `OnLost`, where our own server serves it."""

_LONGEST_LENGTH = 18  # digits; Python refuses to read thousands of them
JSON = (b"content-type", b"application/json")
EVENTS = (b"content-type", b"text/event-stream; charset=utf-8")


class CallerLeft(Exception):
    """The caller has hung up: nobody reads an answer any more."""


def header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """The first header of a name (lower case), or None."""
    for key, value in headers:
        if key == name:
            return value
    return None


def refuse_foreign_media(headers: Headers) -> None:
    """Refuse a body that says it is not JSON in UTF-8. A body that says nothing is taken at its word.

    Raises:
        UnsupportedMediaType: another type, another character set, or a compressed body.
    """
    if (header(headers, b"content-encoding") or b"identity").lower() != b"identity":
        raise UnsupportedMediaType("Compressed request bodies are not accepted.")
    sent = header(headers, b"content-type")
    if sent is None or sent == JSON[1]:
        return
    kind, _, parameters = sent.decode("latin-1").lower().partition(";")
    kind = kind.strip()
    charset = parameters.partition("charset=")[2].partition(";")[0].strip(' "')
    if not (kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))):
        raise UnsupportedMediaType
    if charset not in {"", "utf-8", "utf8"}:
        raise UnsupportedMediaType(f"The character set '{charset[:40]}' is not accepted: send UTF-8.")


async def read_body(receive: Receive, headers: Headers, *, limit_bytes: int) -> bytes:
    """The whole body.

    Raises:
        RequestTooLarge: it is, or says it is, longer than the limit.
        CallerLeft: the caller hung up in the middle.
    """
    too_large = RequestTooLarge(f"The request body is larger than {limit_bytes} bytes.")
    length = header(headers, b"content-length")
    if length is not None and not length.isdigit():
        raise InvalidRequest("The Content-Length header is not a number.")
    if length is not None and (len(length) > _LONGEST_LENGTH or int(length) > limit_bytes):
        raise too_large
    pieces, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise CallerLeft
        piece = message.get("body", b"")
        size += len(piece)
        if size > limit_bytes:
            raise too_large
        pieces.append(piece)
        if not message.get("more_body"):
            return b"".join(pieces)


class ended_by_hangup:  # noqa: N801 - used like the context managers of asyncio
    """Run the block until it ends or the caller leaves, streaming or not; then the block is cancelled.

    `on_lost` tells of the caller's leaving (see `OnLost`); without, `receive` is asked all the time. Once `answered()`,
    nobody is waited for any more: a server reports the end of its own answer as a hang-up too, and the block must clean
    up in peace.

    Raises:
        CallerLeft: after the block has been cancelled for that reason.
    """

    __slots__ = ("_answered", "_given", "_left", "_on_lost", "_receive", "_task", "_watcher")

    def __init__(
        self,
        receive: Receive,
        *,
        answered: Callable[[], bool] = lambda: False,
        on_lost: OnLost | None = None,
        task: asyncio.Task[Any] | None = None,
    ) -> None:
        """`task`: the one that runs the block, if it is at hand."""
        self._receive = receive
        self._answered = answered
        self._on_lost = on_lost
        self._left = False
        self._given = task
        self._watcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        task = self._given or asyncio.current_task()
        assert task is not None  # noqa: S101 - an endpoint always runs in one
        self._task = task
        if self._on_lost is None:
            self._watcher = task.get_loop().create_task(self._watch())
        else:
            self._on_lost(self._lost)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
        elif self._on_lost is not None:
            self._on_lost(None)
        if not self._left:
            return
        if kind is asyncio.CancelledError:
            if not self._task.uncancel():  # else somebody else wants this task to end as well
                raise CallerLeft from None
        elif self._task.cancelling():  # it left just as the block ended: take the cancellation that is under way
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
            if self._task.uncancel():
                raise asyncio.CancelledError

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._lost()

    def _lost(self) -> None:
        if not self._answered():
            self._left = True
            self._task.cancel()
