"""The floor: a proxy of callbacks and nothing else, for what Python costs at the least. It checks and counts nothing.

python -m gateways.floor PORT UPSTREAM-PORT
"""

import asyncio
import sys

import httptools
import uvloop

JSON = b"content-type: application/json\r\ncontent-length: %d\r\n\r\n"
REQUEST = b"POST /v1/chat/completions HTTP/1.1\r\nhost: upstream\r\n" + JSON
ANSWER = b"HTTP/1.1 %d OK\r\n" + JSON + b"%b"
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Behind(asyncio.Protocol):
    """A connection to the upstream; serves one caller at a time."""

    def __init__(self, idle: "list[Behind]") -> None:
        self.caller: Caller | None = None
        self._idle = idle
        self._parser = httptools.HttpResponseParser(self)
        self._stream = False
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self._idle:
            self._idle.remove(self)

    def ask(self, caller: "Caller", body: list[bytes]) -> None:
        self.caller = caller
        self.transport.writelines([REQUEST % sum(map(len, body)), *body])

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name == b"content-type":
            self._stream = value.startswith(b"text/event-stream")

    def on_headers_complete(self) -> None:
        if self._stream and self.caller:
            self.caller.transport.write(STREAM)

    def on_body(self, data: bytes) -> None:
        if not self._stream:
            self._body.append(data)
        elif self.caller:
            self.caller.transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def on_message_complete(self) -> None:
        body, self._body = b"".join(self._body), []
        caller, self.caller = self.caller, None
        self._idle.append(self)
        if caller:
            status = self._parser.get_status_code()
            caller.transport.write(b"0\r\n\r\n" if self._stream else ANSWER % (status, len(body), body))


class Caller(asyncio.Protocol):
    """A connection of somebody who asks."""

    def __init__(self, idle: list[Behind], upstream: int) -> None:
        self._idle, self._upstream = idle, upstream
        self._parser = httptools.HttpRequestParser(self)
        self._body: list[bytes] = []
        self._opening: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        body, self._body = self._body, []
        if self._idle:
            self._idle.pop().ask(self, body)
        else:
            self._opening = asyncio.ensure_future(self._ask_another(body))

    async def _ask_another(self, body: list[bytes]) -> None:
        loop = asyncio.get_running_loop()
        _, behind = await loop.create_connection(lambda: Behind(self._idle), "127.0.0.1", self._upstream)
        behind.ask(self, body)


async def serve(port: int, upstream: int) -> None:
    idle: list[Behind] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Caller(idle, upstream), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2])))
