"""The examples of the documentation: what can run is run, everything else is at least read."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from tests.docs.markdown_blocks import ROOT, Block, blocks
from tests.server_process import CHAT_MODEL, EMBEDDING_MODEL, Server

from narthex.cli.program import app
from narthex.settings import load

pytestmark = pytest.mark.patient

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]

ADDRESS = "http://127.0.0.1:8000"
RUN = ("README.md", "docs/quickstart.md")
"""Pages whose requests are sent to a real server."""


@pytest.fixture
def folder(server: Server, tmp_path: Path) -> Path:
    """A folder as the examples expect it: the server's data is in `narthex-data`."""
    (tmp_path / "narthex-data").symlink_to(server.data)
    return tmp_path


def _run(command: list[str], folder: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(
        command, cwd=folder, env=environment, check=False, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", blocks("yaml"), ids=lambda block: block.name)
def test_settings_load(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    file = tmp_path / "narthex.yaml"
    file.write_text(block.text)
    settings = load(file)
    for name in yaml.safe_load(block.text):
        assert name in settings.model_fields_set


# --- requests and programs -------------------------------------------------------------------------------------------


def _requests() -> list[Block]:
    return [block for page in RUN for block in blocks("sh", page=page) if block.text.startswith("curl")]


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("block", _requests(), ids=lambda block: block.name)
def test_requests_are_answered(block: Block, server: Server, folder: Path) -> None:
    assert ADDRESS in block.text
    script = block.text.replace(ADDRESS, server.url).replace("curl", "curl --fail-with-body -sS", 1)
    said = _run(["sh", "-c", script], folder)
    if '"stream": true' in block.text:
        assert said.endswith("data: [DONE]\n\n")
    else:
        answer = json.loads(said)
        assert answer["object"] in {"chat.completion", "list"}
        assert answer["model"] in {CHAT_MODEL, EMBEDDING_MODEL}


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block.name)
def test_programs_run(block: Block, server: Server, folder: Path) -> None:
    (folder / "example.py").write_text(block.text.replace(ADDRESS, server.url))
    assert _run([sys.executable, "example.py"], folder).strip()


@pytest.mark.parametrize("block", blocks("json"), ids=lambda block: block.name)
def test_json_parses(block: Block) -> None:
    json.loads(block.text)


# --- commands --------------------------------------------------------------------------------------------------------


def _commands() -> list[str]:
    """Every `narthex` and `make` command that a page shows."""
    lines = [line for block in blocks("sh") for line in block.text.replace("\\\n", " ").splitlines()]
    return sorted({line for line in lines if line.startswith((".venv/bin/narthex ", "make "))})


@pytest.mark.parametrize("line", _commands())
def test_commands_exist(line: str) -> None:
    words = shlex.split(line, comments=True)
    if words[0] == "make":
        assert f"\n{words[1]}:" in (ROOT / "Makefile").read_text()
        return
    command: Any = typer.main.get_command(app)
    rest = words[1:]
    while hasattr(command, "commands"):
        command = command.commands[rest.pop(0)]
    options = {name for one in command.params for name in one.opts}
    assert [word for word in rest if word.startswith("--") and word not in options] == []


def test_the_terminal_chat_of_the_quickstart(server: Server, folder: Path) -> None:
    [block] = [block for block in blocks("sh", page="docs/quickstart.md") if "narthex chat" in block.text]
    words = shlex.split(block.text)
    command = [sys.executable, "-m", "narthex", *words[1:], "--url", server.url, "--max-tokens", "8"]
    assert _run(command, folder).strip()
