"""A server of calls on a unix socket; used by every child that others ask for something."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import structlog

from narthex.core.errors import NarthexError
from narthex.ipc import protocol
from narthex.ipc.tasks import TaskSet

log = structlog.get_logger(__name__)

Operation = Callable[["Peer", msgspec.Raw], Awaitable[Any]]
"""Takes who asks and the payload (decode it with `msgspec.msgpack.decode(payload, type=…)`), returns what msgpack can
hold. It is cancelled when the caller gives up or leaves."""


class Peer:
    """One connected caller, from its connection to its end. `on_close` callbacks run when it has left."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.on_close: list[Callable[[], None]] = []

    def answer(self, message: tuple[Any, ...]) -> None:
        """Send one message; does nothing when the caller has left."""
        if not self._writer.is_closing():
            self._writer.write(protocol.frame(message))


class Server:
    """Serves `operations` on `path` until closed. The socket is readable by this user only (its folder is 0700)."""

    def __init__(self, path: Path, operations: Mapping[str, Operation]) -> None:
        self._path = path
        self._operations = operations
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.StreamWriter, asyncio.Task[Any] | None] = {}

    async def start(self) -> None:
        """Begin to listen; a stale socket file of an ended process is replaced."""
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, self._path)
        self._path.chmod(0o600)

    async def aclose(self) -> None:
        """Stop listening, leave every caller, cancel what runs for them and wait for it, remove the socket file."""
        if self._server is not None:
            self._server.close()
            serving = [task for task in self._connections.values() if task is not None]
            for writer in self._connections:
                writer.close()
            if serving:
                await asyncio.wait(serving)
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(writer)
        self._connections[writer] = asyncio.current_task()
        running: dict[int, asyncio.Task[None]] = {}
        tasks = TaskSet()
        try:
            while True:
                length = int.from_bytes(await reader.readexactly(4), "big")
                if length > protocol.MAX_MESSAGE_BYTES:
                    break
                call, operation, payload = protocol.decode_call(await reader.readexactly(length))
                if operation == protocol.CANCEL:
                    if task := running.get(call):
                        task.cancel()
                    continue
                task = tasks.start(self._run(peer, call, operation, payload))
                running[call] = task
                task.add_done_callback(lambda _, call=call: running.pop(call, None))  # type: ignore[misc]
                with contextlib.suppress(ConnectionError):
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, msgspec.MsgspecError):
            pass
        finally:
            try:
                await tasks.aclose()
            finally:
                for callback in peer.on_close:
                    callback()
                writer.close()
                del self._connections[writer]

    async def _run(self, peer: Peer, call: int, operation: str, payload: msgspec.Raw) -> None:
        try:
            peer.answer((call, protocol.OK, await self._operations[operation](peer, payload)))
        except NarthexError as error:
            peer.answer((call, protocol.FAILED, protocol.describe(error)))
        except Exception as error:  # the edge of a process: the caller must get an answer
            log.exception("operation failed", operation=operation)
            peer.answer((call, protocol.FAILED, protocol.describe(error)))
