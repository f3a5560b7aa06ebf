"""Callers that speak HTTP by hand, for what a client library would hide: hang-ups, stalls, half requests, pipelines."""

import asyncio
import json
import socket
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import h11
import msgspec
from tests.server_process import CHAT_MODEL, EMBEDDING_MODEL, Server

ANSWER_S = 60.0


class Answer(msgspec.Struct, kw_only=True):
    """What came back. `complete`: to its end, as HTTP counts it."""

    status: int
    headers: dict[str, str]
    body: bytes = b""
    complete: bool = False

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def data(self) -> list[bytes]:
        """What the events of a stream hold."""
        return [line[6:] for line in self.body.split(b"\n") if line.startswith(b"data: ")]

    @property
    def done(self) -> bool:
        """Whether a stream says that it is whole."""
        return self.data[-1:] == [b"[DONE]"]

    @property
    def error(self) -> dict[str, Any] | None:
        """The error of a whole answer, or the one that ended a stream."""
        if self.headers.get("content-type", "").startswith("text/event-stream"):
            last = self.data[-1] if self.data else b"{}"
            return None if last == b"[DONE]" else json.loads(last).get("error")
        return self.json.get("error") if self.body else None

    @property
    def whole(self) -> bool:
        """A 200 with everything that belongs to it."""
        streamed = self.headers.get("content-type", "").startswith("text/event-stream")
        return self.status == 200 and self.complete and (self.done if streamed else True)


class Caller:
    """One connection. Made by `call`; `answer` is there once `head` has returned."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._http = h11.Connection(h11.CLIENT)
        self.answer = Answer(status=0, headers={})

    async def send(self, method: str, path: str, *, body: bytes = b"", headers: dict[str, str]) -> None:
        lines = {"host": "127.0.0.1", "content-length": str(len(body)), **headers}
        request = h11.Request(method=method, target=path, headers=list(lines.items()))
        self.writer.write(self._http.send(request) or b"")
        self.writer.write((self._http.send(h11.Data(data=body)) or b"") + (self._http.send(h11.EndOfMessage()) or b""))
        await self.writer.drain()

    def again(self) -> "Caller":
        """The same connection, for the next request."""
        return Caller(self.reader, self.writer)

    async def ask(self, path: str, body: dict[str, Any] | None = None, *, key: str, method: str = "") -> None:
        """Send a POST of `body`, or a GET without one."""
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        data = b"" if body is None else json.dumps(body).encode()
        await self.send(method or ("GET" if body is None else "POST"), path, body=data, headers=headers)

    async def head(self) -> Answer:
        """Until status and headers are here."""
        while not self.answer.status:
            await self._step()
        return self.answer

    async def until(self, text: bytes) -> Answer:
        """Until the body holds `text`."""
        while text not in self.answer.body:
            if self.answer.complete:
                raise AssertionError(f"the answer ended: {self.answer}")
            await self._step()
        return self.answer

    async def end(self) -> Answer:
        """Until the answer has ended, cut off or not."""
        try:
            while not self.answer.complete:
                await self._step()
        except (h11.RemoteProtocolError, ConnectionError, EOFError):
            pass
        return self.answer

    def leave(self, *, reset: bool = False) -> None:
        """Hang up: with FIN, or with a TCP reset."""
        if reset:
            one = self.writer.get_extra_info("socket")
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.writer.transport.abort()
        else:
            self.writer.close()

    async def _step(self) -> None:
        event = self._http.next_event()
        if event is h11.NEED_DATA:
            async with asyncio.timeout(ANSWER_S):
                data = await self.reader.read(65536)
            if not data and self._http.their_state is h11.SEND_RESPONSE:
                raise EOFError("the connection was closed before an answer")
            self._http.receive_data(data)
        elif isinstance(event, h11.Response):
            self.answer.status = event.status_code
            self.answer.headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
        elif isinstance(event, h11.Data):
            self.answer.body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            self.answer.complete = True


@asynccontextmanager
async def connected(server: Server) -> AsyncIterator[Caller]:
    """A caller that has said nothing yet."""
    where = urlsplit(server.url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port, limit=65536)
    try:
        yield Caller(reader, writer)
    finally:
        writer.transport.abort()


@asynccontextmanager
async def calling(
    server: Server, path: str, body: dict[str, Any] | None = None, *, key: str | None = None, method: str = ""
) -> AsyncIterator[Caller]:
    """A caller whose request is on its way: a POST of `body`, or a GET without one."""
    async with connected(server) as caller:
        await caller.ask(path, body, key=key or server.admin_key, method=method)
        yield caller


async def ask(
    server: Server, path: str, body: dict[str, Any] | None = None, *, key: str | None = None, method: str = ""
) -> Answer:
    """The whole answer, or as much of it as came."""
    async with calling(server, path, body, key=key, method=method) as caller:
        return await caller.end()


CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"


def chat(text: str = "Tell a long story.", **fields: Any) -> dict[str, Any]:
    """A chat's body."""
    return {"model": CHAT_MODEL, "messages": [{"role": "user", "content": text}], **fields}


def endless(prompt: str = "", **fields: Any) -> dict[str, Any]:
    """A completion that goes on to its limit: it repeats itself, almost surely. `prompt` makes it another one."""
    text = f"{prompt} row, row, row, row, row, row, row, row, row, row, row, row, row, row,"
    return {"model": CHAT_MODEL, "prompt": text, "max_tokens": 1500, "temperature": 0.01, **fields}


def embedding(text: str = "A sentence.", **fields: Any) -> dict[str, Any]:
    """An embedding's body."""
    return {"model": EMBEDDING_MODEL, "input": text, **fields}


def honest(answer: Answer) -> bool:
    """It is whole, or says what happened: a status with a message, or an error as the last event of a stream."""
    if answer.whole:
        return True
    error = answer.error
    if answer.status == 200:
        return bool(error and error["message"] and b"[DONE]" not in answer.body and answer.complete)
    return answer.status in {502, 503} and bool(error and error["message"])


async def served(server: Server, *, within_s: float = 60.0, key: str | None = None) -> None:
    """Until a short chat is answered; until then it is refused in good order."""
    began = time.monotonic()
    while (answer := await ask(server, CHAT, chat("Hello", max_tokens=2), key=key)).status != 200:
        assert honest(answer), answer
        assert int(answer.headers["retry-after"]) >= 1
        assert time.monotonic() - began < within_s, answer
        await asyncio.sleep(0.05)
