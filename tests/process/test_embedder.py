"""The embedder's process with the real model."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from narthex.core.errors import ContextLengthExceeded, EngineCrashed, EngineUnavailable, InvalidRequest
from narthex.ipc.client import Client
from narthex.retrieval.embed import EmbedAnswer, Embedder

pytest_plugins = ["tests.models_fixture"]
pytestmark = [pytest.mark.anyio, pytest.mark.patient]

FOX = "The quick brown fox jumps over the lazy dog."


class Child:
    def __init__(self, process: "subprocess.Popen[bytes]", notices: Any, socket: Path) -> None:
        self.process = process
        self.socket = socket
        self._notices = notices

    def notice(self) -> dict[str, Any]:
        """The next line of the child to its parent; empty when it ended without one."""
        return json.loads(self._notices.readline() or b"{}")

    def settings(self, **settings: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(msgspec.json.encode(settings) + b"\n")
        self.process.stdin.flush()


@contextmanager
def child(socket: Path) -> Iterator[Child]:
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "narthex.retrieval.embedder", "--notify", str(writing)],
        stdin=subprocess.PIPE,
        pass_fds=(writing,),
    )
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as notices:
            yield Child(process, notices, socket)
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture(scope="module")
def running(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    socket = tmp_path_factory.mktemp("embedder") / "e.sock"
    with child(socket) as started:
        started.settings(name="minilm", model_dir=str(models_dir / "all-minilm-l6-v2"), socket=str(socket))
        ready = started.notice()
        assert (ready["event"], ready["dim"], ready["max_tokens"]) == ("ready", 384, 512)
        yield started


@pytest.fixture
async def embedder(running: Child) -> AsyncIterator[Embedder]:
    client = Embedder(running.socket, "minilm")
    yield client
    await client.aclose()


async def test_texts_become_unit_vectors(embedder: Embedder) -> None:
    found = await embedder.embed(texts=[FOX, "hello", FOX, ""])
    rows = [np.frombuffer(row, "<f4") for row in found.vectors]
    assert found.dim == 384
    assert found.tokens == [12, 3, 12, 2]
    assert rows[0] @ rows[2] == pytest.approx(1, abs=1e-5)
    assert [np.linalg.norm(row) for row in rows] == pytest.approx([1] * 4, abs=1e-5)
    near = await embedder.embed(texts=["A fast fox leaps above a sleepy dog.", "Quarterly tax declarations"])
    fox, tax = (np.frombuffer(row, "<f4") for row in near.vectors)
    assert rows[0] @ fox > 0.6 > 0.2 > rows[0] @ tax


async def test_token_ids_are_used_as_given(embedder: Embedder) -> None:
    text = await embedder.embed(texts=["hello"])
    ids = await embedder.embed(tokens=[[7592], [101, 7592, 102], [101, 7592]])
    assert ids.tokens == [3, 3, 2]
    vector, bare, marked, open_end = (np.frombuffer(row, "<f4") for row in (*text.vectors, *ids.vectors))
    assert vector @ bare == pytest.approx(1, abs=1e-5)
    assert vector @ marked == pytest.approx(1, abs=1e-5)
    assert vector @ open_end < 0.999


async def test_info(embedder: Embedder) -> None:
    found = await embedder.info()
    assert (found.dim, found.max_tokens, len(found.digest)) == (384, 512, 64)


@pytest.mark.parametrize(("tokens", "index"), [([[1], [30522]], 1), ([[-1]], 0), ([[5], [6], []], 2), ([[1 << 62]], 0)])
async def test_ids_that_the_model_does_not_have(embedder: Embedder, tokens: list[list[int]], index: int) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await embedder.embed(tokens=tokens)
    assert (caught.value.param, caught.value.code) == (f"input[{index}]", "invalid_value")


async def test_either_texts_or_tokens(embedder: Embedder) -> None:
    for call in ({}, {"texts": ["a"], "tokens": [[1]]}):
        with pytest.raises(InvalidRequest):
            await embedder.embed(**call)  # type: ignore[arg-type]
    assert (await embedder.embed(texts=[])).vectors == []


async def test_too_long_an_input(embedder: Embedder) -> None:
    assert (await embedder.embed(texts=["word " * 510])).tokens == [512]
    with pytest.raises(ContextLengthExceeded) as caught:
        await embedder.embed(texts=["fits", "word " * 511])
    assert caught.value.param == "input"
    assert caught.value.message == "This model takes at most 512 tokens; input 1 has 513."
    cut = await embedder.embed(texts=["word " * 700], truncate=True)
    whole = await embedder.embed(texts=["word " * 510])
    assert cut.tokens == [512]
    assert bytes(cut.vectors[0]) == bytes(whole.vectors[0])


async def test_runs_beside_each_other_give_what_each_gives_alone(embedder: Embedder) -> None:
    texts = [f"{FOX} " * (1 + place % 4) + "and so on" * place for place in range(24)]
    alone = [bytes((await embedder.embed(texts=[text])).vectors[0]) for text in texts]
    before = await embedder.work()
    found = await asyncio.gather(*(embedder.embed(texts=[text]) for text in texts))
    assert [bytes(one.vectors[0]) for one in found] == alone
    assert (await embedder.work()).busy_s > before.busy_s > 0


async def test_a_single_text_passes_a_call_of_two_thousand(embedder: Embedder, running: Child) -> None:
    large = asyncio.ensure_future(embedder.embed(texts=[f"{FOX} {n}" for n in range(2048)]))
    other = Embedder(running.socket, "minilm")
    for _ in range(5):
        await other.embed(texts=["hello there"])
        assert not large.done()
    await other.aclose()
    large.cancel()
    with pytest.raises(asyncio.CancelledError):
        await large


async def test_a_caller_who_leaves_takes_its_work_along(running: Child) -> None:
    leaving = Client(running.socket, name="embedder")
    calls = [
        asyncio.ensure_future(leaving.call("embed", {"texts": ["word " * 500] * 500}, EmbedAnswer)) for _ in range(4)
    ]
    staying = Embedder(running.socket, "minilm")
    await staying.embed(texts=["now"])
    await leaving.aclose()
    assert all(isinstance(one, EngineCrashed) for one in await asyncio.gather(*calls, return_exceptions=True))
    async with asyncio.timeout(60):  # the work that was dropped would take minutes
        await staying.embed(texts=["word " * 400] * 4)
    await staying.aclose()


def notice_of(tmp_path: Path, model_dir: Path) -> tuple[dict[str, Any], int]:
    with child(tmp_path / "e.sock") as started:
        started.settings(name="broken", model_dir=str(model_dir), socket=str(started.socket))
        return started.notice(), started.process.wait(60)


def test_a_model_that_is_not_whole_is_named(models_dir: Path, tmp_path: Path) -> None:
    notice, status = notice_of(tmp_path, tmp_path / "none")
    assert (notice["event"], status) == ("failed", 1)
    assert "none/config.json can't be read" in notice["message"]
    copy = tmp_path / "cut"
    shutil.copytree(models_dir / "all-minilm-l6-v2", copy, ignore=shutil.ignore_patterns("*.onnx"))
    os.truncate(copy / "model.safetensors", 1_000_000)
    notice, status = notice_of(tmp_path, copy)
    assert (notice["event"], status) == ("failed", 1)
    assert "cut/model.safetensors is not what it should be" in notice["message"]


async def test_ends_with_its_parent_and_when_told(models_dir: Path, tmp_path: Path) -> None:
    for end in ("lifeline", "SIGTERM", "SIGKILL"):
        with child(tmp_path / "e.sock") as started:
            model_dir = str(models_dir / "all-minilm-l6-v2")
            started.settings(name="minilm", model_dir=model_dir, socket=str(started.socket), threads=1)
            assert started.notice()["event"] == "ready"
            client = Embedder(started.socket, "minilm")
            waiting = asyncio.ensure_future(client.embed(texts=["word " * 500] * 200))
            await client.info()
            if end == "lifeline":
                assert started.process.stdin is not None
                started.process.stdin.close()
            else:
                started.process.send_signal(signal.Signals[end])
            with pytest.raises(EngineCrashed):
                await waiting
            assert started.process.wait(60) == (-9 if end == "SIGKILL" else 0)
            with pytest.raises(EngineUnavailable):
                await client.info()
            await client.aclose()


def test_ends_when_the_pipe_closes_before_the_settings(tmp_path: Path) -> None:
    with child(tmp_path / "e.sock") as started:
        assert started.process.stdin is not None
        started.process.stdin.close()
        assert started.process.wait(60) == 0
