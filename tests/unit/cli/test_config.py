"""`narthex config`: what it prints and how it ends."""

import json
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from narthex.cli.config import app
from narthex.cli.serve import serve


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


def test_check_tells_programs_too(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("prot: 1\nmodels: [{name: a, deployments: [b/c]}]\n")
    result = CliRunner().invoke(app, ["check", "--json", "--config", str(file)])
    assert result.exit_code == 2
    told = json.loads(result.stdout)
    assert told["valid"] is False
    assert [(fault["line"], fault["path"]) for fault in told["faults"]] == [(1, "prot"), (2, "models.0.deployments.0")]
    assert told["faults"][0]["file"] == str(file)
    good = CliRunner().invoke(app, ["check", "--json"])
    assert (good.exit_code, json.loads(good.stdout)) == (0, {"valid": True, "faults": []})


def test_serve_says_the_same_and_makes_no_folder(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text('prot: 1\nmodels: [{name: "[/red]", deployments: ["[b]/c"]}]\n')
    server = typer.Typer()
    server.command()(serve)
    checked = CliRunner().invoke(app, ["check", "--config", str(file)])
    served = CliRunner().invoke(server, ["--config", str(file), "--data", str(tmp_path / "data")])
    assert (checked.exit_code, served.exit_code) == (2, 2)
    assert checked.stderr == served.stderr
    assert "there is no provider '[b]'" in served.stderr
    assert not (tmp_path / "data").exists()
