"""Calls to another process of ours over a unix socket: many at a time over one connection, made anew when it breaks."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from narthex.core.errors import EngineCrashed, EngineUnavailable, NarthexError
from narthex.ipc import protocol
from narthex.ipc.tasks import TaskSet

T = TypeVar("T")


class Client:
    """One caller of one server. Connects with its first call; safe for any number of tasks of one loop.

    `on_lost` is called when a connection breaks: whatever the server held for this caller is gone.
    """

    def __init__(self, path: Path, *, name: str, on_lost: Callable[[], None] | None = None) -> None:
        self._path = path
        self._name = name
        self._on_lost = on_lost
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: dict[int, asyncio.Future[msgspec.Raw]] = {}
        self._last = 0
        self._lock = asyncio.Lock()
        self._tasks = TaskSet()

    async def call(self, operation: str, payload: Any, answer: type[T], *, timeout_s: float | None = None) -> T:
        """Call and wait. Cancelling the waiting cancels the work over there.

        Raises:
            EngineUnavailable: the process can't be reached, or `timeout_s` passed.
            EngineCrashed: it ended while we waited.
            NarthexError: whatever the operation raised there, as the same class.
        """
        writer = await self._connected()
        self._last += 1
        call = self._last
        future: asyncio.Future[msgspec.Raw] = asyncio.get_running_loop().create_future()
        self._waiting[call] = future
        writer.write(protocol.frame((call, operation, payload)))
        try:
            async with asyncio.timeout(timeout_s):
                raw = await future
        except TimeoutError:
            raise EngineUnavailable(f"The {self._name} took longer than {timeout_s:g} s.", retry_after_s=1) from None
        finally:
            if self._waiting.pop(call, None) is not None and not writer.is_closing():
                writer.write(protocol.frame((call, protocol.CANCEL, None)))
        return msgspec.msgpack.decode(raw, type=answer)

    async def notify(self, operation: str, payload: Any) -> None:
        """Call without waiting for the answer, e.g. to give something back. Never raises for a lost connection."""
        if self._writer is not None and not self._writer.is_closing():
            self._last += 1
            self._writer.write(protocol.frame((self._last, operation, payload)))

    async def aclose(self) -> None:
        """Close the connection; calls under way fail with `EngineCrashed`."""
        if self._writer is not None:
            self._writer.close()
        await self._tasks.aclose()
        self._lost()

    async def _connected(self) -> asyncio.StreamWriter:
        if self._writer is not None and not self._writer.is_closing():
            return self._writer
        async with self._lock:
            if self._writer is None or self._writer.is_closing():
                try:
                    reader, writer = await asyncio.open_unix_connection(self._path)
                except OSError:
                    raise EngineUnavailable(f"The {self._name} is not running.", retry_after_s=1) from None
                self._writer = writer
                self._tasks.start(self._read(reader, writer))
            return self._writer

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, msgspec.MsgspecError):
            while True:
                length = int.from_bytes(await reader.readexactly(4), "big")
                self._resolve(await reader.readexactly(length))
        writer.close()
        if self._writer is writer:
            self._lost()

    def _resolve(self, message: bytes) -> None:
        call, outcome, payload = protocol.decode_answer(message)
        future = self._waiting.pop(call, None)
        if future is None or future.done():
            return
        if outcome == protocol.OK:
            future.set_result(payload)
        else:
            future.set_exception(protocol.revive(payload))

    def _lost(self) -> None:
        self._writer = None
        waiting, self._waiting = self._waiting, {}
        error: NarthexError = EngineCrashed(f"The {self._name} ended.", retry_after_s=1)
        for future in waiting.values():
            if not future.done():
                future.set_exception(error)
        if self._on_lost is not None:
            self._on_lost()
