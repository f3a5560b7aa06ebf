"""`narthex status` against a running server, and where there is none."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.server_process import Server

pytestmark = pytest.mark.patient

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "narthex", "status", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_lists_the_processes(server: Server) -> None:
    told = json.loads(run("--json", "--data", str(server.data)).stdout)
    states = {row["name"]: row["state"] for row in told}
    assert states["worker-0"] == "ready"
    assert all(row["memory_bytes"] > 0 for row in told if row["pid"])
    shown = run("--data", str(server.data)).stdout
    assert all(name in shown for name in states)


def test_says_that_nothing_runs(tmp_path: Path) -> None:
    ended = run("--data", str(tmp_path))
    assert ended.returncode == 1
    assert "not running" in ended.stderr
