"""The official Node client against the session's server: runs tests/node."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.server_process import CHAT_MODEL, EMBEDDING_MODEL, SLASHED, Server

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]

FOLDER = Path(__file__).parents[1] / "node"


def test_node_client(server: Server) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node is not installed")
    if not (FOLDER / "node_modules" / "openai").is_dir():
        pytest.skip("the Node client is not installed: run scripts/node-setup")
    told = {
        "BASE_URL": server.base_url,
        "API_KEY": server.admin_key,
        "CHAT_MODEL": CHAT_MODEL,
        "EMBEDDING_MODEL": EMBEDDING_MODEL,
        "SLASHED": SLASHED,
    }
    ended = subprocess.run(
        [node, "--test", "client.test.mjs", "parameters.test.mjs"],
        cwd=FOLDER,
        env=os.environ | told,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
