"""The end of the supervisor by force: nothing of it stays, and the data folder serves again."""

import signal
import tempfile
from pathlib import Path

import pytest
from tests.callers import CHAT, COMPLETIONS, ask, calling, chat, endless
from tests.server_inside import alive, children, until
from tests.server_process import CHAT_MODEL, EMBEDDING_MODEL, install_models, serving

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = [pytest.mark.anyio, pytest.mark.patient]


async def test_a_killed_supervisor_leaves_nothing_and_its_folder_serves_again(models_dir: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="nx-") as folder:
        data = Path(folder) / "data"
        data.mkdir(mode=0o700)
        install_models(models_dir, data, (CHAT_MODEL, EMBEDDING_MODEL))
        with serving(data, exit_code=-signal.SIGKILL) as server:
            key = server.admin_key
            async with calling(server, COMPLETIONS, endless(stream=True)) as caller:
                await caller.until(b"data: {")
                running = [child.pid for child in (await children(server)).values() if child.pid is not None]
                assert len(running) >= 3
                server.process.kill()
                assert not (await caller.end()).complete

            async def all_gone() -> bool:
                return not any(map(alive, running))

            await until(all_gone)
            server.process.wait()
        with serving(data) as server:
            assert server.admin_key == key
            assert (await ask(server, CHAT, chat("Hello", max_tokens=2), key=key)).status == 200
