"""What stands between the clients and the model, by the name that `--through` takes."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tests.interop import bare_llama
from tests.interop.litellm import KEY, litellm
from tests.interop.processes import answering, free_port
from tests.server_process import CHAT_MODEL, EMBEDDING_MODEL, SLASHED, Server, StartServer

from narthex.engine.llama import SPIN_ROUNDS

Chain = Callable[[StartServer, Path], AbstractContextManager[Server]]

_NONE = {"state": "refused"}
ALIAS = {"models": [{"name": SLASHED, "deployments": [f"local/{CHAT_MODEL}"]}]}


def another(kind: str) -> Chain:
    """Narthex in front of Narthex, which it takes for a provider of type `kind`."""

    @contextlib.contextmanager
    def chain(start_server: StartServer, _: Path) -> Iterator[Server]:
        with start_server(ALIAS) as backend:
            behind = {"type": kind, "base_url": backend.base_url, "api_key": backend.admin_key}
            with start_server(passing_on({"behind": behind}), models=()) as front:
                yield front

    return chain


def through_litellm(kind: str, *surfaces: str) -> Chain:
    """Narthex, LiteLLM, Narthex: as `kind` the first asks the second, on these surfaces and for embeddings."""

    @contextlib.contextmanager
    def chain(start_server: StartServer, _: Path) -> Iterator[Server]:
        with (
            tempfile.TemporaryDirectory(prefix="nx-") as folder,
            start_server(ALIAS) as backend,
            litellm(backend, Path(folder)) as url,
        ):
            behind: dict[str, Any] = {"type": kind, "base_url": f"{url}/v1", "api_key": KEY}
            chat = {"kind": "chat", "refused": refused_by(backend, surfaces)}
            vectors = behind | {"type": "openai-compatible", "models": {EMBEDDING_MODEL: {"kind": "embedding"}}}
            behind |= {"models": {CHAT_MODEL: chat, SLASHED: chat}}
            with start_server(passing_on({"behind": behind, "vectors": vectors}), models=()) as front:
                yield front

    return chain


@contextlib.contextmanager
def over_llama_server(start_server: StartServer, models_dir: Path) -> Iterator[Server]:
    """Narthex, whose engine is a llama-server of somebody else's."""
    (model,) = (models_dir / CHAT_MODEL).glob("*.gguf")
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, str(Path(bare_llama.__file__)), str(model), str(port)]
    engine = {"url": url, "slots": bare_llama.SLOTS, "context": 8192}
    polite = {**os.environ, "GOMP_SPINCOUNT": str(SPIN_ROUNDS)}  # the tests and we run on the same cores
    config = ALIAS | {"engine": {"default": None, "models": {CHAT_MODEL: engine}}}
    with (
        tempfile.TemporaryDirectory(prefix="nx-") as folder,
        answering(command, f"{url}/health", environment=polite, folder=Path(folder), name="llama-server"),
        start_server(config, models=(EMBEDDING_MODEL,)) as front,
    ):
        yield front


def refused_by(backend: Server, surfaces: Sequence[str]) -> list[str]:
    """What the last server refuses on each of these: LiteLLM would tell it in words only, so the first tells it."""
    with backend.http() as client:
        (row,) = client.get("/v1/capabilities", params={"model": CHAT_MODEL}).raise_for_status().json()["data"]
    cells = [row["deployments"][0]["surfaces"][surface] for surface in surfaces]
    return sorted(field for field in cells[0] if all(each.get(field, _NONE)["state"] == "refused" for each in cells))


def passing_on(providers: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a server that has nothing of its own. The last provider serves the embeddings."""
    first, last = next(iter(providers)), list(providers)[-1]
    serving = {CHAT_MODEL: first, SLASHED: first, EMBEDDING_MODEL: last}
    return {
        "engine": {"default": None},
        "embedder": {"default": None},
        "providers": providers,
        "models": [{"name": name, "deployments": [f"{provider}/{name}"]} for name, provider in serving.items()],
    }


CHAINS: Mapping[str, Chain] = {
    "local": over_llama_server,
    "narthex": another("narthex"),
    "openai-compatible": another("openai-compatible"),
    "litellm-openai": through_litellm("openai-compatible", "chat", "completions"),
    "litellm-anthropic": through_litellm("anthropic", "chat"),
}
NAMES = tuple(CHAINS)
