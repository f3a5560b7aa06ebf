"""The few ASGI words that our endpoints share: types, bodies in, and a caller who leaves."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, Protocol

from narthex.core.errors import InvalidRequest, RequestTooLarge, UnsupportedMediaType
from narthex.http.heads import Head

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
OnLost = Callable[[Callable[[], None] | None], None]
"""Takes what is to be called when the caller's connection is lost, at once if it is lost already; None: nobody."""
ON_LOST = "narthex.on_lost"
"""The extension of an ASGI scope that holds an `OnLost`, where our own server serves it."""
DIRECT = "narthex.direct"
"""The extension that holds a `Direct` there."""


Rest = Callable[[], Awaitable[None]]
"""What is left to do for a request, by a task."""


def raising(error: Exception) -> Rest:
    """Nothing is left to do but to raise it, where all errors are told."""

    async def rest() -> None:
        raise error

    return rest


class Direct(Protocol):
    """The caller's end of a request without messages: what `receive` and `send` do, at a fraction of the cost."""

    named: dict[bytes, bytes]
    """The first header of each name (lower case)."""
    head: Head | None
    """The head of the request, if another one with the same may come; what is known of it may be kept there."""

    async def receive(self) -> Message:
        """See the ASGI specification."""
        ...

    async def send(self, message: Message) -> None:
        """See the ASGI specification."""
        ...

    @property
    def has_all(self) -> bool:
        """Whether `whole` has the body."""
        ...

    def go_on(self, rest: Rest) -> None:
        """Have the rest of a request done that was answered without a task so far."""
        ...

    def whole(self) -> bytes | None:
        """The body, if all of it is here; None: it has to be received."""
        ...

    @property
    def clogged(self) -> bool:
        """Whether the caller reads too slowly: wait until it is `unclogged` before you write more."""
        ...

    flows: bool
    """Whether a stream is under way, in chunks, to a caller who is there."""
    quiet: bool
    """No chunk was passed on since this was set."""

    def pass_on(self, chunk: bytes) -> bool:
        """A chunk of such a stream, its length and all. Whether nobody has to wait before the next."""
        ...

    async def unclogged(self) -> None:
        """Wait until the caller has read."""
        ...

    def answer(self, lines: bytes, body: bytes) -> None:
        """A whole answer of status 200. `lines`: its head, with a line end after each but the last, and no other."""
        ...

    def begin(self, status: int, headers: Headers) -> None:
        """The head of the answer; it leaves with the first of the body. Raises `RuntimeError` as `send` does."""
        ...

    def write(self, body: bytes, *, more: bool) -> None:
        """More of the body. Raises `RuntimeError` as `send` does."""
        ...


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


def refuse_foreign_media(headers: Iterable[tuple[bytes, bytes]]) -> None:
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


def too_large(limit_bytes: int) -> RequestTooLarge:
    """The error for a body beyond the limit."""
    return RequestTooLarge(f"The request body is larger than {limit_bytes} bytes.")


async def read_body(receive: Receive, headers: Headers, *, limit_bytes: int) -> bytes:
    """The whole body.

    Raises:
        RequestTooLarge: it is, or says it is, longer than the limit.
        CallerLeft: the caller hung up in the middle.
    """
    length = header(headers, b"content-length")
    if length is not None and not length.isdigit():
        raise InvalidRequest("The Content-Length header is not a number.")
    if length is not None and (len(length) > _LONGEST_LENGTH or int(length) > limit_bytes):
        raise too_large(limit_bytes)
    pieces, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise CallerLeft
        piece = message.get("body", b"")
        size += len(piece)
        if size > limit_bytes:
            raise too_large(limit_bytes)
        pieces.append(piece)
        if not message.get("more_body"):
            return b"".join(pieces)


@asynccontextmanager
async def ended_by_hangup(receive: Receive, *, answered: Callable[[], bool] = lambda: False) -> AsyncIterator[None]:
    """Run the block until it ends or the caller leaves, streaming or not; then the block is cancelled.

    For servers that tell of it only by `receive`. Once `answered()`, nobody is waited for any more: a server reports
    the end of its own answer as a hang-up too, and the block must clean up in peace.

    Raises:
        CallerLeft: after the block has been cancelled for that reason.
    """
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - an endpoint always runs in one
    left = False

    async def watch() -> None:
        nonlocal left
        while (await receive())["type"] != "http.disconnect":
            pass
        if not answered():
            left = True
            task.cancel()

    watcher = asyncio.get_running_loop().create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if not left:
            raise
        left = False
        if task.uncancel():  # somebody else wants this task to end as well
            raise
        raise CallerLeft from None
    finally:
        watcher.cancel()
        if left and task.cancelling():  # it left just as the block ended: take the cancellation that is under way
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
            if task.uncancel():
                raise asyncio.CancelledError
