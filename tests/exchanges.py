"""What a client of a test and a server said to each other."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2
import msgspec
import pytest
from typing_extensions import override


class HttpExchange(msgspec.Struct, kw_only=True):
    """One request and what came back, as bytes. `complete`: the answer was read to its end."""

    method: str
    path: str
    sent: bytes
    status: int
    content_type: str
    received: bytes = b""
    complete: bool = False


EXCHANGES = pytest.StashKey[list[HttpExchange]]()
"""Where a session keeps its own."""


class _Kept(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A body that is noted while it passes."""

    def __init__(self, stream: Any, exchange: HttpExchange) -> None:
        self._stream = stream
        self._exchange = exchange

    @override
    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._stream:
            self._exchange.received += chunk
            yield chunk
        self._exchange.complete = True

    @override
    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            self._exchange.received += chunk
            yield chunk
        self._exchange.complete = True

    @override
    def close(self) -> None:
        self._stream.close()

    @override
    async def aclose(self) -> None:
        await self._stream.aclose()


class Recorder:
    """Event hooks of a client that note its exchanges."""

    def __init__(self, exchanges: list[HttpExchange]) -> None:
        self._exchanges = exchanges

    def note(self, response: httpx2.Response) -> None:
        request = response.request
        exchange = HttpExchange(
            method=request.method,
            path=request.url.raw_path.decode(),
            sent=_content(request),
            status=response.status_code,
            content_type=response.headers.get("content-type", ""),
        )
        response.stream = _Kept(response.stream, exchange)
        self._exchanges.append(exchange)

    async def anote(self, response: httpx2.Response) -> None:
        self.note(response)


def _content(request: httpx2.Request) -> bytes:
    """Its body; empty for one that was made while it was sent."""
    try:
        return request.content
    except httpx2.RequestNotRead:
        return b""
