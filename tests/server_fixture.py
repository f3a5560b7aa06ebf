"""Fixtures with real servers.

`server` runs for the whole session with the default settings and one more public name, `SLASHED`, which is trusted with
chat templates of requests. `shallow_server` does
so too, with a chat model of two layers: for what does not depend on what the model says. `start_server` gives further
ones, with other settings, for the time of a `with` block.

A module asks for them by `pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]`, and imports names from
`tests.server_process`, never from here: pytest wants to be the first to import a plugin.
"""

import contextlib
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.chat_gguf import rewritten
from tests.server_process import CHAT_MODEL, EMBEDDING_MODEL, SLASHED, Server, StartServer, install_models, serving

SETTINGS = {
    "models": [{"name": SLASHED, "deployments": [f"local/{CHAT_MODEL}"], "trust_request_chat_template": True}],
}
THREADS = {"threads": 1}
"""Two threads would be hardly quicker beside other tests, at twice the work: they wait for each other by spinning."""
ENGINE = {**THREADS, "slots": 4}
"""The engine of a server that is started for a few tests, unless they say otherwise. Room for sixteen slots would be as
much memory as the machine affords, and to take that costs more than all else that starts."""


@pytest.fixture(scope="session")
def start_server(models_dir: Path) -> StartServer:
    """`start_server(config=None, *, workers=1, models=both, models_from=…)`: a `with` block's own server."""

    @contextlib.contextmanager
    def start(
        config: dict[str, Any] | None = None,
        *,
        workers: int = 1,
        models: tuple[str, ...] = (CHAT_MODEL, EMBEDDING_MODEL),
        models_from: Path = models_dir,
        verify: ssl.SSLContext | bool = True,
    ) -> Iterator[Server]:
        given = config or {}
        engine = given.get("engine", {})
        if engine.get("default", CHAT_MODEL) is not None:
            given = {**given, "engine": {**ENGINE, **engine}}
        with tempfile.TemporaryDirectory(prefix="nx-") as folder:
            data = Path(folder) / "data"
            data.mkdir(mode=0o700)
            install_models(models_from, data, models)
            with serving(data, config=given, workers=workers, verify=verify) as server:
                yield server

    return start


@pytest.fixture(scope="session")
def server(start_server: StartServer, request: pytest.FixtureRequest) -> Iterator[Server]:
    """The session's server. Whoever changes what others see (settings, models, load) starts one of their own."""
    if request.config.getoption("--through") is not None:
        yield request.getfixturevalue("far_server")
        return
    with start_server(SETTINGS | {"engine": {"slots": 16}}) as running:
        yield running


@pytest.fixture(scope="session")
def shallow_model(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Settings of a local model: the chat model's first two layers, whose nonsense comes several times as fast."""
    (source,) = (models_dir / CHAT_MODEL).glob("*.gguf")
    file = rewritten(source, tmp_path_factory.mktemp("model") / source.name, layers=2)
    return {"source": str(file), **THREADS}


@pytest.fixture(scope="session")
def shallow_server(
    start_server: StartServer, shallow_model: dict[str, Any], request: pytest.FixtureRequest
) -> Iterator[Server]:
    """As `server`, with that model in the chat model's place."""
    if request.config.getoption("--through") is not None:
        yield request.getfixturevalue("far_server")
        return
    engine = {"default": None, "models": {CHAT_MODEL: shallow_model}}
    with start_server(SETTINGS | {"engine": engine}, models=(EMBEDDING_MODEL,)) as running:
        yield running
