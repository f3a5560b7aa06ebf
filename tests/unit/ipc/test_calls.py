"""Calls between two ends of a real unix socket."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Self

import msgspec
import pytest
from structlog.testing import capture_logs

from narthex.core import errors
from narthex.ipc import protocol
from narthex.ipc.client import Client
from narthex.ipc.server import Peer, Server

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)  # a short path: a socket's may have about 100 bytes
    return Path("s")


class Ends:
    """A server of a few operations and what it saw."""

    def __init__(self, path: Path) -> None:
        self.started = asyncio.Event()
        self.release = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.left = asyncio.Event()
        self.lost = 0
        names = ("echo", "wait", "refuse", "break_", "unsendable")
        self.server = Server(path, {name: getattr(self, name) for name in names})
        self.client = Client(path, name="engine", on_lost=self._lost)

    def _lost(self) -> None:
        self.lost += 1

    async def echo(self, peer: Peer, payload: msgspec.Raw) -> Any:
        peer.on_close.append(self.left.set)
        return msgspec.msgpack.decode(payload)

    async def wait(self, _peer: Peer, _payload: msgspec.Raw) -> str:
        self.started.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return "waited"

    async def refuse(self, _peer: Peer, _payload: msgspec.Raw) -> None:
        raise errors.ContextLengthExceeded("Too long.", param="messages", retry_after_s=1.5)

    async def break_(self, _peer: Peer, _payload: msgspec.Raw) -> None:
        raise ValueError("a secret")

    async def unsendable(self, _peer: Peer, _payload: msgspec.Raw) -> object:
        return object()

    async def __aenter__(self) -> Self:
        await self.server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()
        await self.server.aclose()


async def soon(work: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(60):
        return await work()


async def test_many_calls_over_one_connection(path: Path) -> None:
    async with Ends(path) as ends:
        calls = (ends.client.call("echo", {"n": n, "x": b"x" * n}, dict[str, Any]) for n in range(0, 300_000, 30_000))
        answers = await asyncio.gather(*calls)
        assert [answer["n"] for answer in answers] == list(range(0, 300_000, 30_000))
        assert path.stat().st_mode & 0o777 == 0o600
    assert not path.exists()


async def test_a_slow_call_holds_up_no_other(path: Path) -> None:
    async with Ends(path) as ends:
        slow = asyncio.ensure_future(ends.client.call("wait", None, str))
        await ends.started.wait()
        assert await ends.client.call("echo", 1, int) == 1
        ends.release.set()
        assert await slow == "waited"


async def test_our_errors_keep_their_class(path: Path) -> None:
    async with Ends(path) as ends:
        with pytest.raises(errors.ContextLengthExceeded, match=r"Too long\.") as caught:
            await ends.client.call("refuse", None, int)
        assert (caught.value.param, caught.value.retry_after_s) == ("messages", 1.5)
        assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize("operation", ["break_", "unsendable", "unknown"])
async def test_foreign_errors_arrive_without_their_text(path: Path, operation: str) -> None:
    async with Ends(path) as ends:
        with capture_logs() as logs, pytest.raises(errors.NarthexError) as caught:
            await soon(lambda: ends.client.call(operation, None, int))
        assert type(caught.value) is errors.NarthexError
        assert "secret" not in caught.value.message
        assert [line["operation"] for line in logs] == [operation]


async def test_cancelling_a_call_cancels_the_work(path: Path) -> None:
    async with Ends(path) as ends:
        call = asyncio.ensure_future(ends.client.call("wait", None, str))
        await ends.started.wait()
        call.cancel()
        await soon(ends.cancelled.wait)
        assert await ends.client.call("echo", 1, int) == 1


async def test_a_timeout_cancels_the_work(path: Path) -> None:
    async with Ends(path) as ends:
        with pytest.raises(errors.EngineUnavailable, match=r"The engine took longer than 0.05 s"):
            await ends.client.call("wait", None, str, timeout_s=0.05)
        await soon(ends.cancelled.wait)


async def test_cancel_of_a_finished_call_is_ignored(path: Path) -> None:
    async with Ends(path):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(protocol.frame((7, protocol.CANCEL, None)) + protocol.frame((8, "echo", "x")))
        length = int.from_bytes(await reader.readexactly(4), "big")
        assert protocol.decode_answer(await reader.readexactly(length))[:2] == (8, protocol.OK)
        writer.close()
        await writer.wait_closed()


async def test_a_caller_that_leaves_has_its_work_cancelled(path: Path) -> None:
    async with Ends(path) as ends:
        await ends.client.call("echo", 1, int)
        call = asyncio.ensure_future(ends.client.call("wait", None, str))
        await ends.started.wait()
        await ends.client.aclose()
        await soon(ends.cancelled.wait)
        await soon(ends.left.wait)
        with pytest.raises(errors.EngineCrashed, match="The engine ended"):
            await call


async def test_a_server_that_ends_fails_its_callers(path: Path) -> None:
    async with Ends(path) as ends:
        call = asyncio.ensure_future(ends.client.call("wait", None, str))
        await ends.started.wait()
        await ends.server.aclose()
        assert ends.cancelled.is_set()
        with pytest.raises(errors.EngineCrashed):
            await soon(lambda: call)
        assert ends.lost == 1
        with pytest.raises(errors.EngineUnavailable, match="is not running"):
            await ends.client.call("echo", 1, int)


async def test_a_new_server_is_reached_by_the_next_call(path: Path) -> None:
    async with Ends(path) as ends:
        await ends.client.call("echo", 1, int)
        await ends.server.aclose()
        async with Ends(path):
            await soon(ends.left.wait)
            assert await soon(lambda: until_answered(ends.client)) == 2


async def until_answered(client: Client) -> int:
    while True:
        try:
            return await client.call("echo", 2, int)
        except errors.EngineCrashed:  # sent into the connection that was being closed
            await asyncio.sleep(0)


async def test_a_broken_connection_fails_its_own_callers_although_a_new_one_is_open(path: Path) -> None:
    async with Ends(path) as ends:
        stuck = asyncio.ensure_future(ends.client.call("wait", None, str))
        await ends.started.wait()
        assert ends.client._connection is not None
        ends.client._connection.writer.close()
        assert await ends.client.call("echo", 1, int) == 1
        with pytest.raises(errors.EngineCrashed):
            await soon(lambda: stuck)
        assert await ends.client.call("echo", 2, int) == 2


async def test_notify_does_not_wait_and_never_raises(path: Path) -> None:
    async with Ends(path) as ends:
        await ends.client.notify("echo", 1)
        await ends.client.call("echo", 1, int)
        await ends.client.notify("wait", None)
        await soon(ends.started.wait)
        await ends.server.aclose()
        await ends.client.notify("echo", 1)


@pytest.mark.parametrize("junk", [b"\x00\x00\x00\x01\xc1", b"\xff\xff\xff\xff", b"\x00\x00"])
async def test_junk_ends_the_connection_only(path: Path, junk: bytes) -> None:
    async with Ends(path) as ends:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(junk)
        writer.write_eof()
        assert await soon(reader.read) == b""
        writer.close()
        await writer.wait_closed()
        assert await ends.client.call("echo", 1, int) == 1


async def test_a_stale_socket_is_replaced(path: Path) -> None:
    path.touch()
    async with Ends(path) as ends:
        assert await ends.client.call("echo", 1, int) == 1


async def test_closing_what_was_never_opened(path: Path) -> None:
    await Client(path, name="engine").aclose()
    await Server(path, {}).aclose()


def test_every_error_survives_the_way() -> None:
    for name, kind in errors.BY_NAME.items():
        made = (
            errors.MethodNotAllowed("text", allow=("GET",))
            if kind is errors.MethodNotAllowed
            else kind("text", param="p", retry_after_s=2)
        )
        back = protocol.revive(msgspec.Raw(msgspec.msgpack.encode(protocol.describe(made))))
        expected = errors.RequestError if kind is errors.MethodNotAllowed else kind
        assert (type(back), back.message, back.code) == (expected, "text", made.code), name
