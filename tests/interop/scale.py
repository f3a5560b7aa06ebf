"""Scale's own client in the other versions that know the same fields, each from an environment of its own.

The one that is pinned is tried by `tests/integration/test_scale_client.py`.
"""

import os
import subprocess
import tempfile
from pathlib import Path

from tests.interop.environments import CACHE, installed
from tests.models_fixture import CACHE as MODELS
from tests.server_process import CHAT_MODEL, Server, install_models, serving

from narthex.engine.models.catalogue import CATALOGUE
from narthex.engine.models.pull import pull

NAME = "scale-gp"
VERSIONS = ("0.1.0a56", "0.1.0a57")
CALLS = Path(__file__).parents[1] / "scale_calls.py"


def main() -> int:
    """How many versions did not get what they asked for."""
    pull(CATALOGUE[CHAT_MODEL], MODELS)
    with tempfile.TemporaryDirectory(prefix="nx-") as folder:
        data = Path(folder) / "data"
        data.mkdir(mode=0o700)
        install_models(MODELS, data, (CHAT_MODEL,))
        with serving(data) as server:
            return sum(_fails(version, server) for version in VERSIONS)


def _fails(version: str, server: Server) -> bool:
    python = installed(CACHE / "clients" / f"{NAME}-{version}", f"{NAME}=={version}")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SGP_", "PYTHON"))}
    environment["SGP_API_KEY"] = server.admin_key
    command = [str(python), str(CALLS), server.url, CHAT_MODEL]
    return subprocess.run(command, env=environment, check=False).returncode != 0
