"""LiteLLM in front of a running server, from an environment of its own, without a word to anyone outside.

Its version is the one that `benchmarks/gateways` measures, in the same place.
"""

import contextlib
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path

import yaml
from tests.interop.environments import CACHE, installed
from tests.interop.processes import answering, free_port
from tests.server_process import CHAT_MODEL, EMBEDDING_MODEL, SLASHED, Server

ROOT = Path(__file__).parents[2]
PEERS = ROOT / "benchmarks" / "gateways" / "peers.toml"
FOLDER = CACHE / "gateways" / "litellm"
KEY = "sk-interop-1234"
ALONE = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # it would fetch it
    "LITELLM_LOG": "ERROR",
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_TELEMETRY": "False",
    # Else it asks OpenAI's servers for /v1/responses, which ours has not.
    "LITELLM_USE_CHAT_COMPLETIONS_URL_FOR_ANTHROPIC_MESSAGES": "True",
    "NO_PROXY": "*",
}


@contextlib.contextmanager
def litellm(backend: Server, folder: Path) -> Iterator[str]:
    """Its origin. It knows the backend's models by their names, and takes `KEY`."""
    install()
    # It knows which of OpenAI's models take `dimensions`, and refuses them for any other.
    to = {"api_base": backend.base_url, "api_key": backend.admin_key, "allowed_openai_params": ["dimensions"]}
    settings = {
        "model_list": [
            {"model_name": name, "litellm_params": {"model": f"openai/{name}", **to}}
            for name in (CHAT_MODEL, EMBEDDING_MODEL, SLASHED)
        ],
        "litellm_settings": {"request_timeout": 600, "telemetry": False},
        "general_settings": {"master_key": KEY},
        "router_settings": {"num_retries": 0, "disable_cooldowns": True},
    }
    config = folder / "litellm.yaml"
    config.write_text(yaml.safe_dump(settings))
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [str(FOLDER / "bin" / "litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    ours = ("NARTHEX_", "LITELLM_", "OPENAI_", "ANTHROPIC_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)} | ALONE
    with answering(command, f"{url}/health/liveliness", environment=environment, folder=folder, name="litellm"):
        yield url


def install() -> None:
    """Make sure that it is there; what is there already stays."""
    installed(FOLDER, str(tomllib.loads(PEERS.read_text())["python"]["litellm"]))
