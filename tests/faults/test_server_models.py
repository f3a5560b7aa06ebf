"""Models that can't be loaded, or go away while they are served: a clear answer, no crash loop, others serve on."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.callers import CHAT, EMBEDDINGS, ask, chat, embedding
from tests.server_inside import EMBEDDER, ENGINE, children, kill, ready
from tests.server_process import CHAT_MODEL, EMBEDDING_MODEL, Server, install_models, serving

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = [pytest.mark.anyio, pytest.mark.patient]

SPOILT = ("half", "garbage", "empty", "beheaded", "absent")


@pytest.fixture(scope="module")
def server(models_dir: Path) -> Iterator[Server]:
    """One good model, one that the tests take away, and some that never worked."""
    with tempfile.TemporaryDirectory(prefix="nx-") as folder:
        data = Path(folder) / "data"
        data.mkdir(mode=0o700)
        install_models(models_dir, data, (CHAT_MODEL, EMBEDDING_MODEL))
        (gguf,) = (models_dir / CHAT_MODEL).glob("*.gguf")
        good = gguf.read_bytes()
        contents = {
            "half": good[: len(good) // 2],
            "garbage": b"GGUF" + bytes(range(256)) * 400,
            "empty": b"",
            "beheaded": b"\x00" * 64 + good[64:1_000_000],
            "fleeting": good,
        }
        for name, content in contents.items():
            (Path(folder) / f"{name}.gguf").write_bytes(content)
        shutil.copy(gguf, Path(folder) / "absent.gguf")
        models = {
            name: {"source": str(Path(folder) / f"{name}.gguf"), "context": 512} for name in (*contents, "absent")
        }
        engine = {"models": models, "idle_unload_s": 1.0}
        with serving(data, config={"engine": engine}) as running:
            (Path(folder) / "absent.gguf").unlink()
            yield running


def starts(server: Server, child: str) -> int:
    """How often it was started."""
    return sum(line.get("child") == child and line.get("state") == "starting" for line in server.log_lines())


@pytest.mark.parametrize("model", SPOILT)
async def test_a_damaged_model_is_told_and_not_tried_again_and_again(server: Server, model: str) -> None:
    for stream in (False, True, False):
        answer = await ask(server, CHAT, chat("Hello", model=model, max_tokens=2, stream=stream))
        assert answer.status == 503, answer
        assert answer.error
        assert answer.error["code"] == "model_load_failed"
        assert answer.error["message"]
        assert server.data.parent.as_posix() not in answer.error["message"]
    assert starts(server, f"engine/{model}") <= 1
    assert (await ask(server, CHAT, chat("Hello", max_tokens=2))).status == 200
    assert (await ask(server, EMBEDDINGS, embedding())).status == 200


async def test_a_model_that_vanishes_is_served_until_it_is_unloaded_and_then_told(server: Server) -> None:
    body = chat("Hello", model="fleeting", max_tokens=2)
    assert (await ask(server, CHAT, body)).status == 200
    (server.data.parent / "fleeting.gguf").unlink()
    child = "engine/fleeting"
    if (await children(server))[child].pid is not None:
        await kill(server, child)
    for _ in range(3):
        answer = await ask(server, CHAT, body)
        assert answer.status == 503
        assert answer.error
        assert answer.error["code"] == "model_load_failed"
    assert (await ask(server, CHAT, chat("Hello", max_tokens=2))).status == 200


async def test_an_embedder_whose_files_are_gone_says_so_and_chats_go_on(server: Server) -> None:
    await ready(server, EMBEDDER)
    folder = server.data / "models" / EMBEDDING_MODEL
    hidden = folder.with_name(".hidden")
    folder.rename(hidden)
    try:
        await kill(server, EMBEDDER)
        answer = await ask(server, EMBEDDINGS, embedding())
        assert answer.status in {502, 503}, answer
        assert answer.error
        assert answer.error["message"]
        assert starts(server, EMBEDDER) <= 3
        assert (await ask(server, CHAT, chat("Hello", max_tokens=2))).status == 200
    finally:
        hidden.rename(folder)
    assert (await children(server))[ENGINE].restarts == 0
