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
        self._connection: _Connection | None = None
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
        self._last += 1
        call = self._last
        try:
            async with asyncio.timeout(timeout_s):
                connection = await self._connected()
                raw = await connection.ask(call, protocol.frame((call, operation, payload)))
        except TimeoutError:
            raise EngineUnavailable(f"The {self._name} took longer than {timeout_s:g} s.", retry_after_s=1) from None
        return msgspec.msgpack.decode(raw, type=answer)

    async def notify(self, operation: str, payload: Any) -> None:
        """Call without waiting for the answer, e.g. to give something back. Never raises for a lost connection."""
        if self._connection is not None and self._connection.open:
            self._last += 1
            self._connection.writer.write(protocol.frame((self._last, operation, payload)))

    async def aclose(self) -> None:
        """Close the connection; calls under way fail with `EngineCrashed`."""
        connection = self._connection
        if connection is not None:
            connection.writer.close()
        await self._tasks.aclose()
        if connection is not None and connection is self._connection:
            self._lost(connection)

    async def _connected(self) -> "_Connection":
        async with self._lock:
            if self._connection is not None and self._connection.open:
                return self._connection
            try:
                reader, writer = await asyncio.open_unix_connection(self._path)
            except OSError:
                raise EngineUnavailable(f"The {self._name} is not running.", retry_after_s=1) from None
            connection = self._connection = _Connection(writer)
            self._tasks.start(self._read(reader, connection))
            return connection

    async def _read(self, reader: asyncio.StreamReader, connection: "_Connection") -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, msgspec.MsgspecError):
            while True:
                length = int.from_bytes(await reader.readexactly(4), "big")
                connection.resolve(await reader.readexactly(length))
        connection.writer.close()
        self._lost(connection)

    def _lost(self, connection: "_Connection") -> None:
        if connection is self._connection:
            self._connection = None
        connection.fail(EngineCrashed(f"The {self._name} ended.", retry_after_s=1))
        if self._on_lost is not None:
            self._on_lost()


class _Connection:
    """One connection and who waits on it: when it breaks, its callers learn it even if a new one is open already."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self._waiting: dict[int, asyncio.Future[msgspec.Raw]] = {}

    @property
    def open(self) -> bool:
        return not self.writer.is_closing()

    async def ask(self, call: int, message: bytes) -> msgspec.Raw:
        """Send and wait; whoever stops waiting has the work over there cancelled."""
        future: asyncio.Future[msgspec.Raw] = asyncio.get_running_loop().create_future()
        self._waiting[call] = future
        self.writer.write(message)
        try:
            return await future
        finally:
            if self._waiting.pop(call, None) is not None and self.open:
                self.writer.write(protocol.frame((call, protocol.CANCEL, None)))

    def resolve(self, message: bytes) -> None:
        call, outcome, payload = protocol.decode_answer(message)
        future = self._waiting.pop(call, None)
        if future is None or future.done():
            return
        if outcome == protocol.OK:
            future.set_result(payload)
        else:
            future.set_exception(protocol.revive(payload))

    def fail(self, error: NarthexError) -> None:
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(error)
