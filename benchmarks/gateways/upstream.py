"""The model's server behind every gateway: one thread, one answer, at next to no cost.

python -m gateways.upstream PORT

A chat is answered with about 1.5 KB of JSON, or, where the request says so, with `EVENTS` events of which each carries
its number and the moment at which it was sent. Two events of a stream are never sent less than `GAP_S` apart, however
busy this process is, so whoever gives two of them in one read has merged them. Every GET gets the list of models.
"""

import json
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Callable

import httptools

EVENTS = 64
GAP_S = 0.005
HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\nx-request-id: req_0123456789abcdef0123456789abcdef\r\n"
    b"openai-processing-ms: 412\r\nopenai-version: 2020-10-01\r\nx-ratelimit-limit-requests: 10000\r\n"
    b"x-ratelimit-remaining-requests: 9999\r\nx-ratelimit-reset-requests: 6ms\r\n%b\r\n"
)
SHARED = {"id": "chatcmpl-AbCdEf0123456789", "created": 1760000000, "model": "gpt-4o-mini"}
USAGE = {"prompt_tokens": 512, "completion_tokens": 64, "total_tokens": 576}
MARK = "#00 0000000000000000"
"""Stands in an event's text for its number and the monotonic clock's nanoseconds."""


def whole(value: object) -> bytes:
    """A JSON answer."""
    body = json.dumps(value, separators=(",", ":")).encode()
    return HEAD % (b"application/json", b"content-length: %d\r\n" % len(body)) + body


def event(delta: dict[str, object], *, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return framed({**SHARED, "object": "chat.completion.chunk", "choices": [choice], "usage": None})


def framed(value: object) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


MESSAGE = {"role": "assistant", "content": "A plain answer, a sentence long. " * 35, "refusal": None, "annotations": []}
CHOICE = {"index": 0, "message": MESSAGE, "logprobs": None, "finish_reason": "stop"}
ANSWER = whole({**SHARED, "object": "chat.completion", "choices": [CHOICE], "usage": USAGE})
MODELS = whole(
    {"object": "list", "data": [{"id": "gpt-4o-mini", "object": "model", "created": 1, "owned_by": "bench"}]}
)
STREAM = HEAD % (b"text/event-stream; charset=utf-8", b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n")
FIRST = chunk(event({"role": "assistant", "content": MARK}))
BEFORE, AFTER = chunk(event({"content": MARK})).split(MARK.encode())
COUNTED = framed({**SHARED, "object": "chat.completion.chunk", "choices": [], "usage": USAGE})
LAST = chunk(event({}, finish="stop")) + chunk(COUNTED) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


def told(number: int) -> bytes:
    return b"#%02d %016d" % (number, time.monotonic_ns())


class Connection:
    """One of a gateway's connections. httptools calls the `on_` methods."""

    def __init__(self, plug: socket.socket, streams: "deque[tuple[float, Connection]]") -> None:
        self.plug = plug
        self.parser = httptools.HttpRequestParser(self)
        self.body: list[bytes] = []
        self.sent = 0
        self._streams = streams

    def on_body(self, data: bytes) -> None:
        self.body.append(data)

    def on_message_complete(self) -> None:
        body = b"".join(self.body)
        self.body.clear()
        if self.parser.get_method() != b"POST":
            self.plug.send(MODELS)
        elif b'"stream":true' in body or b'"stream": true' in body:
            self.plug.send(STREAM + FIRST.replace(MARK.encode(), told(0)))
            self.sent = 1
            self._streams.append((time.monotonic() + GAP_S, self))
        else:
            self.plug.send(ANSWER)

    def go_on(self) -> None:
        """The next event."""
        if self.sent == EVENTS:
            self.plug.send(LAST)
        else:
            self.plug.send(b"%b%b%b" % (BEFORE, told(self.sent), AFTER))
            self.sent += 1
            self._streams.append((time.monotonic() + GAP_S, self))


class Upstream:
    """All connections. A reader who lets a send buffer fill up is cut off: nobody in this benchmark does."""

    def __init__(self, port: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", port), backlog=4096)
        self._listener.setblocking(False)
        self._poll = select.epoll()
        self._poll.register(self._listener, select.EPOLLIN)
        self._open: dict[int, Connection] = {}
        self._streams: deque[tuple[float, Connection]] = deque()
        self._room = memoryview(bytearray(1 << 18))

    def serve(self) -> None:
        while True:
            wait_s = max(0.0, self._streams[0][0] - time.monotonic()) if self._streams else -1
            for number, _ in self._poll.poll(wait_s):
                connection = self._open.get(number)
                if connection is None:
                    self._accept()
                else:
                    self._guarded(connection, self._read)
            while self._streams and self._streams[0][0] <= time.monotonic():
                self._guarded(self._streams.popleft()[1], Connection.go_on)

    def _accept(self) -> None:
        plug, _ = self._listener.accept()
        plug.setblocking(False)
        plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._open[plug.fileno()] = Connection(plug, self._streams)
        self._poll.register(plug, select.EPOLLIN)

    def _read(self, connection: Connection) -> None:
        count = connection.plug.recv_into(self._room)
        if not count:
            raise ConnectionResetError
        connection.parser.feed_data(self._room[:count])

    def _guarded(self, connection: Connection, act: Callable[[Connection], None]) -> None:
        try:
            act(connection)
        except (OSError, httptools.HttpParserError):
            self._open.pop(connection.plug.fileno(), None)
            connection.plug.close()


if __name__ == "__main__":
    Upstream(int(sys.argv[1])).serve()
