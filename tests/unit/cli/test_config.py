"""`narthex config`: what it prints and how it ends."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from narthex.cli.config import app


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_check_says_that_all_is_well() -> None:
    result = CliRunner().invoke(app, ["check"])
    assert result.exit_code == 0
    assert "valid" in result.output


def test_check_lists_the_faults(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("port: -1\nnonsense: 2\n")
    result = CliRunner().invoke(app, ["check", "--config", str(file)])
    assert result.exit_code == 2
    assert "port" in result.output
    assert "nonsense" in result.output


def test_show_prints_settings_and_where_they_come_from(tmp_path: Path) -> None:
    file = tmp_path / "good.yaml"
    file.write_text("port: 9\nproviders: {far: {base_url: 'http://h', api_key: sk-canary}}\n")
    result = CliRunner().invoke(app, ["show", "--config", str(file)])
    assert result.exit_code == 0
    assert yaml.safe_load(result.output)["port"] == 9
    assert f"# from: {file}" in result.output
    assert "sk-canary" not in result.output
