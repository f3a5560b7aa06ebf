"""A caller in raw ASGI: it sends its body in pieces, may hang up at any time, and may read slowly."""

import asyncio
import json
from collections.abc import Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
DEADLINE_S = 60.0


async def until(true: Callable[[], bool]) -> None:
    """Return once `true()`."""
    async with asyncio.timeout(DEADLINE_S):
        while not true():
            await asyncio.sleep(0)


class Caller:
    """Call an application with `await caller.call(application)`; then look at what it got.

    As real servers do, it reports the end of its own answer as a disconnect, unless `quiet`.
    """

    def __init__(
        self,
        *pieces: bytes,
        method: str = "POST",
        path: str = "/",
        headers: dict[str, str] | None = None,
        quiet: bool = False,
    ) -> None:
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in (headers or {}).items()]
        self.scope: dict[str, Any] = {"type": "http", "method": method, "path": path, "headers": raw}
        self.sent: list[Message] = []
        self.left = asyncio.Event()
        self.reads = asyncio.Event()
        self.reads.set()
        self._pieces = list(pieces) or [b""]
        self._quiet = quiet

    async def call(self, application: Callable[..., Any]) -> "Caller":
        async with asyncio.timeout(DEADLINE_S):
            await application(self.scope, self.receive, self.send)
        return self

    async def receive(self) -> Message:
        if self._pieces:
            piece = self._pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(self._pieces)}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body") and not self._quiet:
            self.left.set()
        await self.reads.wait()

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"]) if self.sent else 0

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode("latin-1") for name, value in self.sent[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.sent if message["type"] == "http.response.body")

    @property
    def ended(self) -> bool:
        return bool(self.sent) and self.sent[-1].get("more_body") is False

    def json(self) -> Any:
        return json.loads(self.body)

    def events(self) -> list[str]:
        """The events of a streamed answer, comments included."""
        return [event.removeprefix("data: ") for event in self.body.decode().split("\n\n") if event]
