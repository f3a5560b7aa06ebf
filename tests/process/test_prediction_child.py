"""The process that checks predictions: a real model (of two layers), one answer at a time, and its ends."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.chat_gguf import rewritten

from narthex.core.errors import ModelLoadFailed
from narthex.engine.local.llama import Piece
from narthex.engine.local.prediction import Predictions
from narthex.engine.prediction.protocol import Begin, PredictionSettings
from narthex.ipc.client import Client

pytest_plugins = ["tests.models_fixture"]
pytestmark = [pytest.mark.anyio, pytest.mark.patient]

PROMPT = [1, 4093, 198, *range(1000, 1040)]


@pytest.fixture(scope="module")
def model(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    (source,) = (models_dir / "smollm2-135m-instruct").glob("*.gguf")
    return rewritten(source, tmp_path_factory.mktemp("model") / source.name, layers=2)


def asked(predicted: list[int] | None = None, **fields: Any) -> Begin:
    usual: dict[str, Any] = {"account": "a", "prompt": PROMPT, "max_new": 40, "temperature": 0}
    return Begin(predicted=predicted or [], **usual | fields)


class Checking:
    """A child as the supervisor starts it."""

    def __init__(self, folder: Path, model: Path, **settings: Any) -> None:
        self.socket = folder / "prediction.sock"
        usual: dict[str, Any] = {"name": "m", "model_path": str(model), "socket": str(self.socket), "batch": 64}
        self.settings = PredictionSettings(threads=1, **usual | settings)
        self.ensured = 0
        self.predictions = Predictions(self.socket, child="prediction/m", ensure=self._ensure)

    async def start(self) -> dict[str, Any]:
        out, into = os.pipe()
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "narthex.engine.prediction.child", "--notify", str(into), stdin=-1, pass_fds=[into]
        )
        os.close(into)
        assert self.process.stdin is not None
        self.process.stdin.write(msgspec.json.encode(self.settings) + b"\n")
        with os.fdopen(out, "rb", buffering=0) as pipe:
            return dict(json.loads(await asyncio.wait_for(asyncio.to_thread(pipe.readline), 60)))

    async def _ensure(self, _child: str) -> None:
        self.ensured += 1

    async def tokens(self, begin: Begin) -> tuple[list[int], Piece]:
        async with self.predictions.checked(begin) as pieces:
            assert pieces is not None
            all_ = [piece async for piece in pieces]
        return [token for piece in all_ for token in piece.tokens], all_[-1]

    async def aclose(self) -> None:
        await self.predictions.aclose()
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        self.process.stdin.close()  # type: ignore[union-attr]


@pytest.fixture
async def child(tmp_path: Path, model: Path) -> AsyncIterator[Checking]:
    async with AsyncExitStack() as stack:
        made = Checking(tmp_path, model)
        stack.push_async_callback(made.aclose)
        assert await made.start() == {"event": "ready"}
        yield made


async def test_the_tokens_are_the_same_with_a_prediction(child: Checking) -> None:
    plain, last = await child.tokens(asked())
    assert (len(plain), last.stop_type, last.tokens_predicted) == (40, "limit", 40)
    again, last = await child.tokens(asked(plain))
    assert again == plain
    assert (last.accepted, last.rejected) == (40, 0)
    assert last.timings.cache_n == len(PROMPT) - 1


async def test_what_is_kept_of_a_prompt_is_for_its_account_only(child: Checking) -> None:
    await child.tokens(asked())
    _, last = await child.tokens(asked(account="b"))
    assert last.timings.cache_n == 0
    _, last = await child.tokens(asked(account="b"))
    assert last.timings.cache_n > 0


async def test_a_text_outgrows_its_context(child: Checking) -> None:
    long = asked(max_new=1050)
    grown, last = await child.tokens(long)
    assert (len(grown), last.timings.cache_n) == (1050, 0)
    at_once, last = await child.tokens(long)
    assert last.timings.cache_n > 0
    assert at_once == grown


async def test_a_draw_is_seeded(child: Checking) -> None:
    drawn = {"temperature": 1.0, "top_p": 0.9, "top_k": 40, "min_p": 0.01}
    first, _ = await child.tokens(asked(seed=1, **drawn))
    assert (await child.tokens(asked(first, seed=1, **drawn)))[0] == first
    assert (await child.tokens(asked(first, seed=2, **drawn)))[0] != first


async def test_one_answer_at_a_time(child: Checking) -> None:
    async with child.predictions.checked(asked(max_new=8000)) as pieces:
        assert pieces is not None
        await anext(pieces)
        async with child.predictions.checked(asked()) as others:
            assert others is None
    async with asyncio.timeout(60):
        while True:  # the first one ends soon after it was dropped
            async with child.predictions.checked(asked()) as others:
                if others is not None:
                    return


async def test_it_retires_when_it_has_nothing_to_do(child: Checking) -> None:
    client = Client(child.socket, name="prediction")
    async with child.predictions.checked(asked(max_new=8000)) as pieces:
        assert pieces is not None
        await anext(pieces)
        assert await client.call("retire", None, dict[str, bool]) == {"retired": False}
    async with asyncio.timeout(60):
        while not (await client.call("retire", None, dict[str, bool]))["retired"]:
            pass
        assert await child.process.wait() == 0
    await client.aclose()
    async with child.predictions.checked(asked()) as pieces:
        assert pieces is None


async def test_an_answer_that_nobody_has_taken_yet_keeps_it(child: Checking) -> None:
    """Its caller may read slowly."""
    client = Client(child.socket, name="prediction")
    async with child.predictions.checked(asked(max_new=60)) as pieces:
        assert pieces is not None
        count = len((await anext(pieces)).tokens)
        async with asyncio.timeout(60):
            while True:  # until the other answer is ready
                async with child.predictions.checked(asked()) as others:
                    if others is not None:
                        break
        async with asyncio.timeout(60):
            while (await client.call("retire", None, dict[str, bool]))["retired"] is False:
                piece = await anext(pieces)
                count += len(piece.tokens)
                if piece.stop:
                    break
        assert count == 60
    await client.aclose()


async def test_an_answer_whose_number_nobody_heard_is_dropped(child: Checking, monkeypatch: Any) -> None:
    client = child.predictions._client
    call = client.call

    async def left(operation: str, *rest: Any) -> Any:
        await call(operation, *rest)
        raise asyncio.CancelledError  # its caller leaves just now

    monkeypatch.setattr(client, "call", left)
    with pytest.raises(asyncio.CancelledError):
        async with child.predictions.checked(asked(max_new=50_000)):
            pass
    monkeypatch.undo()
    async with asyncio.timeout(60):
        while True:
            async with child.predictions.checked(asked()) as pieces:
                if pieces is not None:
                    return


async def test_it_ends_when_nobody_needs_it(tmp_path: Path, model: Path) -> None:
    made = Checking(tmp_path, model, idle_unload_s=0.05)
    assert await made.start() == {"event": "ready"}
    assert await asyncio.wait_for(made.process.wait(), 60) == 0
    await made.aclose()


async def test_a_damaged_file_is_told_and_not_asked_for_again(tmp_path: Path) -> None:
    file = tmp_path / "damaged.gguf"
    file.write_bytes(b"GGUF" + bytes(100))
    made = Checking(tmp_path, file)
    assert (await made.start())["event"] == "failed"
    await made.aclose()

    async def refused(_child: str) -> None:
        made.ensured += 1
        raise ModelLoadFailed("The file is damaged.")

    predictions = Predictions(made.socket, child="prediction/m", ensure=refused)
    for _ in range(2):
        async with predictions.checked(asked()) as pieces:
            assert pieces is None
    assert made.ensured == 1
    await predictions.aclose()
