import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("command", "default"),
    [
        (["serve"], "127.0.0.1"),
        (["docs", "add"], "the model's"),
        (["docs", "rebuild"], "each document's own"),
        (["config", "check"], "./narthex.yaml if there"),
    ],
)
def test_defaults_that_the_program_finds_itself_are_shown(command: list[str], default: str) -> None:
    environment = {**os.environ, "COLUMNS": "200"}
    asked = [sys.executable, "-m", "narthex", *command, "--help"]
    shown = subprocess.run(asked, env=environment, stdout=subprocess.PIPE, check=True).stdout.decode()
    assert f"[default: {default}]" in shown
