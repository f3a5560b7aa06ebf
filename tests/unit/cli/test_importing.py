"""`narthex import litellm`: what it prints and writes, and how it ends."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from narthex.cli.importing import app
from narthex.settings import load

THEIRS = """\
model_list:
  - model_name: chat
    litellm_params: {model: openai/gpt-4o, api_key: sk-canary}
"""
LEFT_OUT = THEIRS + "general_settings: {master_key: sk-canary}\n"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(text: str | bytes, *options: str) -> tuple[int, str, str]:
    file = Path("litellm.yaml")
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    result = CliRunner().invoke(app, ["litellm", str(file), *options])
    assert "canary" not in result.output
    return result.exit_code, result.stdout, result.stderr


def test_it_prints_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, told = run(THEIRS)
    assert code == 0
    assert "OPENAI_API_KEY" in told
    assert "Not carried over" not in told
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    file = Path("narthex.yaml")
    file.write_text(out)
    assert load(file).models[0].name == "chat"


def test_it_tells_what_it_left_out() -> None:
    code, out, told = run(LEFT_OUT)
    assert code == 0
    for text in (out, told):
        assert "line 4: general_settings.master_key: " in text


def test_strict_ends_with_3_where_something_was_left_out() -> None:
    assert run(LEFT_OUT, "--strict")[0] == 3
    assert run(THEIRS, "--strict")[0] == 0


def test_it_writes_a_file_and_overwrites_none() -> None:
    assert run(THEIRS, "--output", "narthex.yaml")[:2] == (0, "")
    written = Path("narthex.yaml").read_text()
    assert "name: chat" in written
    code, _, told = run(LEFT_OUT, "--output", "narthex.yaml")
    assert code == 1
    assert "--force" in told
    assert Path("narthex.yaml").read_text() == written
    assert run(LEFT_OUT, "--output", "narthex.yaml", "--force")[0] == 0
    assert "master_key" in Path("narthex.yaml").read_text()


@pytest.mark.parametrize("text", ["providers: {}\n", "model_list: [sk-canary\n", b"\xff\xfe\x00"])
def test_another_file_ends_with_2(text: str | bytes) -> None:
    assert run(text, "--output", "narthex.yaml")[0] == 2
    assert not Path("narthex.yaml").exists()


def test_what_can_not_be_read_or_written_ends_with_1(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["litellm", "nothing.yaml"])
    assert (result.exit_code, "nothing.yaml: No such file" in result.stderr) == (1, True)
    code, _, told = run(THEIRS, "--output", str(tmp_path / "no" / "narthex.yaml"))
    assert (code, "No such file" in told) == (1, True)
