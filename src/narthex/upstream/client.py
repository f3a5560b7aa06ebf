"""The HTTP/1.1 client that talks to model servers, and nothing more: no redirects, no compression, no cookies.

A request is an `async with` block. Leaving it before the body's end, by any way, closes the connection at once; after a
complete answer the connection goes back to the pool.

One thing is done again in silence: when a connection that was used before is closed by the peer before the first byte
of an answer, the request is sent once more on a new one. A server that closes an idle connection just as we write to it
looks exactly so. A POST is included: had the server begun to work on it, this repeats the work but never an answer.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from types import TracebackType

import msgspec
from typing_extensions import override

from narthex import __version__
from narthex.core.errors import UpstreamError, UpstreamProtocolError, UpstreamTimeout
from narthex.core.ports import Intake
from narthex.upstream.address import Address
from narthex.upstream.connection import Connection
from narthex.upstream.pool import Pool
from narthex.upstream.tls import Tls, context

MAX_BODY_BYTES = 64 * 1024 * 1024
_MOST_STARTS = 100

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_VALUE = re.compile(r"[\t -~\x80-\xff]*").fullmatch
_TARGET = re.compile(r"/[!-~]*").fullmatch
_OURS = frozenset(
    ("connection", "content-length", "expect", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade")
)


class Clocks(msgspec.Struct, frozen=True, kw_only=True):
    """How long to wait, in seconds; None waits for ever.

    `connect_s`: for each new connection, TLS included. `first_byte_s`: from `send` to the response's headers, waiting
    for a free connection included. `idle_s`: for the next bytes of a body that has begun, while somebody waits for
    them; before its first a server may well have to think.
    """

    connect_s: float = 2.0
    first_byte_s: float | None = None
    idle_s: float | None = None


_NO_CLOCKS = Clocks()


class UpstreamResponse:
    """A response whose headers are here. Usable within its `async with` block only, by one task at a time."""

    __slots__ = ("_begun", "_connection", "_idle_s", "status")

    def __init__(self, connection: Connection, idle_s: float | None) -> None:
        self.status = connection.status
        self._connection: Connection | None = connection
        self._idle_s = idle_s
        self._begun = connection.silence.limit_s is not None  # fed before

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """With names in lower case, in the order in which they came; of each name the first."""
        return [] if self._connection is None else self._connection.headers

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header, by its lower-case name."""
        return next((value for key, value in self.headers if key == name), None)

    def receive(self) -> Awaitable[bytes]:
        """The body's next bytes, everything that is here; b"" at its end.

        Raises:
            UpstreamError: the body broke off or stalled. What came before was returned by earlier calls.
        """
        if self._connection is None:
            raise RuntimeError("this response's block was left")
        idle_s = self._idle_s if self._begun else None
        self._begun = True
        return self._connection.receive(idle_s)

    def divert(self, intake: Intake | None) -> None:
        """See `Exchange.divert`. None after the block was left is fine."""
        if self._connection is not None:
            self._begun = True
            self._connection.divert(intake, self._idle_s)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body in pieces as they come. A slow reader slows the peer down: no more than about 256 KiB is held.

        Raises:
            UpstreamError: as `receive`.
        """
        while data := await self.receive():
            yield data

    async def read(self, limit: int = MAX_BODY_BYTES) -> bytes:
        """The rest of the body.

        Raises:
            UpstreamProtocolError: it is longer than `limit` bytes.
            UpstreamError: as `receive`.
        """
        pieces = []
        size = 0
        while data := await self.receive():
            size += len(data)
            if size > limit:
                raise UpstreamProtocolError("The answer of the model's server is too large.")
            pieces.append(data)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def detach(self) -> Connection | None:
        """Let go of the connection; it is returned the first time only."""
        connection, self._connection = self._connection, None
        return connection


class UpstreamClient:
    """Requests to one upstream over a pool of its own. Made and used on one loop; close it with `aclose`.

    `headers` go with every request and may hold secrets: they appear in no log, error or text form.
    """

    def __init__(
        self,
        address: Address,
        *,
        headers: Mapping[str, str] | None = None,
        max_connections: int = 1000,
        keepalive_s: float = 30.0,
        tls: Tls | None = None,
    ) -> None:
        self._address = address
        fixed = {
            "host": address.authority,
            "accept-encoding": "identity",
            "accept": "*/*",
            "user-agent": f"narthex/{__version__}",
        }
        if (basic := address.basic_authorization) is not None:
            fixed["authorization"] = basic
        for name, value in (headers or {}).items():
            fixed[_checked_name(name)] = value
        self._fixed = {name: _line(name, value) for name, value in fixed.items()}
        self._starts: dict[tuple[str, str, bool], bytes] = {}
        """What requests without headers of their own begin with, by method, path and whether they have no body."""
        self._pool = Pool(
            address,
            max_connections=max_connections,
            keepalive_s=keepalive_s,
            tls=context(tls or Tls()) if address.scheme == "https" else None,
        )

    @override
    def __repr__(self) -> str:
        return f"UpstreamClient({str(self._address)!r})"

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        headers: Sequence[tuple[str, str]] = (),
        clocks: Clocks = _NO_CLOCKS,
    ) -> "Sending":
        """Send a request; the block begins when the response's headers are here. Use the result once.

        `path` begins with a slash and comes after the address' base path; `headers` replace the client's own of the
        same name. A body is JSON unless a `content-type` says otherwise.

        Raises:
            ValueError: at once, for a method, path or header that can't be sent as it is.
            UpstreamError: on entering the block, when no answer comes.
        """
        return Sending(self._pool, self._head(method, path, body, headers), body or b"", method == "HEAD", clocks)

    def retire(self) -> None:
        """Take no new request and close what is idle; running requests may end."""
        self._pool.retire()

    async def aclose(self) -> None:
        """Close every connection; running requests fail."""
        await self._pool.aclose()

    def _head(self, method: str, path: str, body: bytes | None, headers: Sequence[tuple[str, str]]) -> bytes:
        kind = (method, path, body is None)
        if headers:
            own = {_checked_name(name): _line(name, value) for name, value in headers}
            start = self._start(*kind, own)
        elif kind in self._starts:
            start = self._starts[kind]
        else:
            start = self._start(*kind, {})
            if len(self._starts) < _MOST_STARTS:
                self._starts[kind] = start
        if body is None:
            return start
        return b"%bcontent-length: %d\r\n\r\n" % (start, len(body))

    def _start(self, method: str, path: str, without_body: bool, own: dict[str, bytes]) -> bytes:  # noqa: FBT001
        """All of a head that does not depend on the body's length."""
        if not _NAME(method) or not _TARGET(path):
            raise ValueError("not a method and a path of an HTTP request")
        lines = self._fixed | own
        start = f"{method} {self._address.base}{path} HTTP/1.1\r\n".encode("ascii") + b"".join(lines.values())
        if without_body:
            return start + (b"\r\n" if method in {"GET", "HEAD"} else b"content-length: 0\r\n\r\n")
        return start if "content-type" in lines else start + b"content-type: application/json\r\n"


class Sending:
    """One request and its response: a block, which may be entered at once or after `ask`. Leave what was entered."""

    __slots__ = ("_asked", "_body", "_clocks", "_deadline_s", "_head", "_no_body", "_pool", "_response")

    def __init__(self, pool: Pool, head: bytes, body: bytes, no_body: bool, clocks: Clocks) -> None:  # noqa: FBT001
        self._pool = pool
        self._head = head
        self._body = body
        self._no_body = no_body
        self._clocks = clocks
        self._response: UpstreamResponse | None = None
        self._deadline_s: float | None = None
        self._asked: Connection | None = None

    def ask(self, told: Callable[[bytes | None], None]) -> bool:
        """Send it now, if that takes no waiting. Whether it was sent.

        `told` is called once: with the body of an answer of status 200 that came in one piece (call `done` after that);
        or with None, and then the block has to be entered, which may also be done before.
        """
        if (connection := self._sent()) is None:
            return False
        connection.on_answer(told)
        return True

    def feed(self, intake: Intake) -> bool:
        """The same; feeds the body of an answer of status 200 as it comes, until it is stopped."""
        if (connection := self._sent()) is None:
            return False
        connection.feed(intake, self._clocks.idle_s)
        return True

    def _sent(self) -> Connection | None:
        if self._clocks.first_byte_s is not None or (connection := self._pool.take()) is None:
            return None
        self._asked = connection
        connection.begin(self._head, self._body, no_body=self._no_body, first_byte_s=None)
        return connection

    def keep(self) -> None:
        """Feed nothing any more: the block will be entered."""
        if self._asked is not None:
            self._asked.divert(None, self._clocks.idle_s)

    def last(self) -> bytes | None:
        """After `feed`: what is left of a body that has come to its good end (call `done` after that); None: enter the
        block.
        """
        return None if self._asked is None else self._asked.last()

    def done(self) -> None:
        """The answer to `ask` or `feed` was read: the connection is free."""
        if self._asked is not None:
            self._pool.release(self._asked)
            self._asked = None

    async def __aenter__(self) -> UpstreamResponse:
        first_byte_s = self._clocks.first_byte_s
        if first_byte_s is not None:
            self._deadline_s = asyncio.get_running_loop().time() + first_byte_s
        asked = self._asked
        connection = asked or self._pool.take() or await self._acquire()
        try:
            if asked is None:
                self._ask(connection)
            else:
                asked.on_answer(None)
            await connection.head()
        except BaseException as error:
            if not isinstance(error, UpstreamError) or not connection.lost_unanswered or connection.exchanges == 1:
                self._pool.release(connection)
                raise
            connection = await self._again(connection)
        self._response = UpstreamResponse(connection, self._clocks.idle_s)
        return self._response

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._response is not None and (connection := self._response.detach()) is not None:
            self._pool.release(connection)

    async def _acquire(self) -> Connection:
        try:
            async with asyncio.timeout_at(self._deadline_s):
                return await self._pool.acquire(self._clocks.connect_s)
        except TimeoutError as error:
            raise UpstreamTimeout("There was no connection to the model's server in time.") from error

    async def _again(self, stale: Connection) -> Connection:
        connection = await self._pool.replace(stale, self._clocks.connect_s)
        try:
            self._ask(connection)
            await connection.head()
        except BaseException:
            self._pool.release(connection)
            raise
        return connection

    def _ask(self, connection: Connection) -> None:
        left_s = None
        if self._deadline_s is not None:
            left_s = max(0.0, self._deadline_s - asyncio.get_running_loop().time())
        connection.begin(self._head, self._body, no_body=self._no_body, first_byte_s=left_s)


def _checked_name(name: str) -> str:
    lower = name.lower()
    if not _NAME(name) or lower in _OURS:
        raise ValueError(f"not a header that may be set: {name!r}")
    return lower


def _line(name: str, value: str) -> bytes:
    if not _VALUE(value):
        raise ValueError(f"not a value of a header: {name!r}")  # the value may be a secret
    return f"{name}: {value}\r\n".encode("latin-1")
