"""Fetching images that callers name: only from public addresses, only images, and only so much.

Source: ARCHITECTURE D10; docs/design/egress.md.

Rule 1: a name is resolved once for each hop; every address that comes out has to be allowed, and the connection goes to
one of just these, so nobody can change the name's meaning in between.
Rule 2: callers hear the same words for an address that is refused, for one that does not answer and for a name that
does not exist: they must not be able to learn what there is on our network.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Literal

import msgspec
import structlog

from narthex.core.errors import UpstreamError
from narthex.core.images import media_type
from narthex.upstream.connection import Connection
from narthex.upstream.faults import FOREIGN
from narthex.upstream.place import BadPlace, Place
from narthex.upstream.reach import PORTS, Allowed, may_connect
from narthex.upstream.tls import Tls, context

log = structlog.get_logger(__name__)

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""A name and a port to addresses. Raises `OSError` where there are none."""

MIB = 1024 * 1024
AT_ONCE = 8
"""Images that are being fetched at a time."""
MOST_REDIRECTS = 3
MOST_ADDRESSES = 3
"""How many of a name's addresses are tried."""
CONNECT_S = 3.0

UNREACHABLE = "its address can't be reached from here"
TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")

_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_ALIASES = {"image/jpg": "image/jpeg"}


class Egress(msgspec.Struct, frozen=True, kw_only=True):
    """What may be fetched for callers. `allow`: see `Allowed.parse`; `max_bytes` and `timeout_s` are of one image."""

    images: Literal["fetch", "refuse"] = "fetch"
    max_bytes: int = 20 * MIB
    timeout_s: float = 10.0
    allow: tuple[str, ...] = ()


class Refused(Exception):
    """There will be no image. `why` completes "The image can't be fetched: …" and is for the caller."""

    def __init__(self, why: str, *, cause: str = "") -> None:
        """`cause`: what only our own log is to tell."""
        self.why = why
        self.cause = cause
        super().__init__(why)


class Allowance:
    """How many bytes several images may have together."""

    def __init__(self, bytes_: int) -> None:
        self._left = bytes_

    def take(self, count: int) -> None:
        """Use up some of it.

        Raises:
            Refused: it is used up.
        """
        self._left -= count
        if self._left < 0:
            raise Refused("the images of this request are too large together")


class Fetcher:
    """Fetches images for one worker. Whoever makes it closes it.

    `resolve` and `tls` stand in for the system's resolver and authorities.
    """

    def __init__(self, egress: Egress, *, resolve: Resolve | None = None, tls: Tls | None = None) -> None:
        self._egress = egress
        self._allow = tuple(map(Allowed.parse, egress.allow))
        self._ports = PORTS | {each.port for each in self._allow}
        self._resolve = resolve or self._look_up
        self._tls = tls or Tls()
        self._context: ssl.SSLContext | None = None
        self._gate = asyncio.Semaphore(AT_ONCE)
        # Of our own: names whose servers never answer must not hold up others' threads.
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="resolver")

    @property
    def fetches(self) -> bool:
        """Whether images are fetched at all."""
        return self._egress.images == "fetch"

    @property
    def max_bytes(self) -> int:
        """The largest image."""
        return self._egress.max_bytes

    async def aclose(self) -> None:
        """Take no further work; what runs is left to its end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def resolve(self, host: str, port: int) -> list[str]:
        """The addresses of a name, at least one.

        Raises:
            OSError: there are none.
        """
        return await self._resolve(host, port)

    async def fetch(self, url: str, allowance: Allowance | None = None) -> tuple[str, bytes]:
        """The media type and the bytes of an image. Waits while many others are being fetched.

        Raises:
            Refused: it may not be fetched, is too large or too slow, or is no image.
        """
        async with self._gate:
            try:
                async with asyncio.timeout(self._egress.timeout_s):
                    return await self._followed(Place.parse(url), allowance or Allowance(self._egress.max_bytes))
            except BadPlace as bad:
                raise Refused(str(bad)) from None
            except TimeoutError:
                raise Refused(f"it took longer than {self._egress.timeout_s:g} s") from None

    async def _followed(self, place: Place, allowance: Allowance) -> tuple[str, bytes]:
        for _ in range(1 + MOST_REDIRECTS):
            try:
                async with self._asked(place) as answer:
                    if answer.status not in _REDIRECTS:
                        return await self._image(answer, allowance)
                    location = _header(answer, b"location")
            except Refused as refused:
                log.info("an image was refused", host=place.host, why=refused.why, cause=refused.cause)
                raise
            place = place.redirected(location)
        raise Refused("it redirects too often")

    # --- the connection

    @asynccontextmanager
    async def _asked(self, place: Place) -> AsyncIterator[Connection]:
        """A connection with the head of the answer on it. It is closed at the end of the block."""
        connection = await self._connected(place, await self._addresses(place))
        try:
            connection.begin(place.request(TYPES), b"", no_body=False, first_byte_s=None)
            try:
                await connection.head()
                yield connection
            except UpstreamError as error:
                raise Refused("its server broke off the answer", cause=error.message) from error
        finally:
            connection.abort()

    async def _addresses(self, place: Place) -> list[str]:
        """Where the name leads to, all of it allowed."""
        if place.port not in self._ports:
            raise Refused("images are fetched at the ports 80 and 443 only")
        try:
            addresses = await self._resolve(place.host, place.port)
        except OSError as error:
            raise Refused(UNREACHABLE, cause="no such name") from error
        if not may_connect(place.host, addresses, place.port, allow=self._allow):
            raise Refused(UNREACHABLE, cause="not a public address")
        return addresses

    async def _connected(self, place: Place, addresses: list[str]) -> Connection:
        loop = asyncio.get_running_loop()
        secured = place.scheme == "https"
        if secured and self._context is None:
            self._context = context(self._tls)
        failure: Exception | None = None
        for address in addresses[:MOST_ADDRESSES]:
            try:
                async with asyncio.timeout(CONNECT_S):
                    _, connection = await loop.create_connection(
                        lambda: Connection(loop, _gone),
                        address,
                        place.port,
                        ssl=self._context if secured else None,
                        server_hostname=place.host if secured else None,
                    )
                return connection
            except FOREIGN as error:  # TimeoutError is one: an OSError
                failure = error
        raise Refused(UNREACHABLE, cause=type(failure).__name__) from failure

    async def _look_up(self, host: str, port: int) -> list[str]:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return [str(each[4][0]) for each in found]

    # --- the answer

    async def _image(self, answer: Connection, allowance: Allowance) -> tuple[str, bytes]:
        kind = self._announced(answer)
        pieces = []
        size = 0
        while data := await answer.receive(None):
            size += len(data)
            if size > self._egress.max_bytes:
                raise self._too_large()
            allowance.take(len(data))
            pieces.append(data)
        image = b"".join(pieces)
        if _kind(image) != kind:
            raise Refused(f"its bytes are not those of the type {kind}, which its server tells")
        return kind, image

    def _announced(self, answer: Connection) -> str:
        """The media type that the head tells, if there is nothing against the answer so far."""
        if answer.status != 200:
            raise Refused(f"its server answered with the status {answer.status}")
        if _header(answer, b"content-encoding").lower() not in {b"", b"identity"}:
            raise Refused("its server sent it compressed")
        told = _header(answer, b"content-type").partition(b";")[0].strip().lower().decode("latin-1")
        kind = _ALIASES.get(told, told)
        if kind not in TYPES:
            raise Refused("its server does not tell that it is a PNG, JPEG, GIF or WebP")
        length = _header(answer, b"content-length")
        if length.isdigit() and int(length[:20]) > self._egress.max_bytes:
            raise self._too_large()
        return kind

    def _too_large(self) -> Refused:
        return Refused(f"it has more than {self._egress.max_bytes} bytes")


def _kind(image: bytes) -> str:
    return "image/gif" if image.startswith((b"GIF87a", b"GIF89a")) else media_type(image)


def _header(answer: Connection, name: bytes) -> bytes:
    return next((value for key, value in answer.headers if key == name), b"")


def _gone(_: Connection) -> None:
    """Nobody counts these connections."""
