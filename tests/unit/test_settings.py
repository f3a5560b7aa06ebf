"""The settings: where they come from, which wins, and what is said of wrong ones."""

from pathlib import Path

import pytest

from narthex.core.errors import ConfigError
from narthex.settings import load, origins


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without a narthex.yaml."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, text: str, name: str = "narthex.yaml") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def test_defaults() -> None:
    settings = load()
    assert (settings.host, settings.port, settings.workers) == ("127.0.0.1", 8000, 1)
    assert settings.engine.default == "smollm2-135m-instruct"


def test_command_line_wins_over_environment_over_file(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(elsewhere, "port: 1\nworkers: 2\nengine: {slots: 3, batch: 32}\n")
    monkeypatch.setenv("NARTHEX_WORKERS", "4")
    monkeypatch.setenv("NARTHEX_ENGINE__SLOTS", "5")
    settings = load(None, port=6, host=None)
    assert (settings.port, settings.workers, settings.engine.slots, settings.engine.batch) == (6, 4, 5, 32)
    found = origins(settings, None)
    assert (found["workers"], found["host"]) == ("environment", "default")
    assert found["port"] == file.name


def test_environment_variables_in_the_file(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "providers: {far: {base_url: 'http://h/v1', api_key: '${FAR_KEY}'}}\nhttp: {allowed_hosts: ['${HOST_NAME}']}\n"
    )
    file = write(elsewhere, text, "other.yaml")
    monkeypatch.setenv("FAR_KEY", "sk-canary")
    monkeypatch.setenv("HOST_NAME", "ai.example")
    settings = load(file)
    assert settings.http.allowed_hosts == ("ai.example",)
    assert settings.providers["far"].api_key is not None
    assert settings.providers["far"].api_key.get_secret_value() == "sk-canary"
    assert "sk-canary" not in repr(settings)
    assert "sk-canary" not in settings.model_dump_json()


def test_an_empty_file_is_no_fault(elsewhere: Path) -> None:
    assert load(write(elsewhere, "# nothing yet\n")).port == 8000


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("host: 5\nengine: {slots: x, foo: 1}\n", ("host", "engine.slots", "engine.foo")),
        ("engine: {models: {m: {source: a, url: b}}}\n", ("source", "url")),
        ("models: [{name: a}]\n", ("models.0.deployments",)),
        ("- a list\n", ("map of settings",)),
        ("a: [\n", ("not valid YAML",)),
        ("host: ${NOT_SET_ANYWHERE}\n", ("NOT_SET_ANYWHERE",)),
    ],
)
def test_every_fault_is_named(elsewhere: Path, text: str, said: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(elsewhere, text))
    assert all(each in caught.value.message for each in said), caught.value.message


def test_a_named_file_must_be_there(elsewhere: Path) -> None:
    with pytest.raises(ConfigError, match=r"no\.yaml"):
        load(elsewhere / "no.yaml")


def test_an_environment_that_can_t_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NARTHEX_MODELS", "{not json")
    with pytest.raises(ConfigError, match="environment"):
        load()


def test_a_provider_is_of_a_known_type_and_somewhere(elsewhere: Path) -> None:
    file = write(
        elsewhere,
        "providers: {a: {type: opanai}, b: {type: vllm}, c: {api_key: x}, d: {type: openai, base_url: 'http://h'}}\n",
    )
    with pytest.raises(ConfigError) as caught:
        load(file)
    told = caught.value.message
    assert "no provider type 'opanai'; there are anthropic, azure" in told
    assert "providers.b: providers of the type 'vllm' need a `base_url`" in told
    assert "the type 'openai-compatible' need a `base_url`" in told
    assert "providers.d" not in told


def test_what_a_provider_s_model_can_do(elsewhere: Path) -> None:
    text = "providers: {a: {type: groq, models: {m: {refused: [seed], reasoning: false, answer_tokens: 9}, n: {}}}}\n"
    models = load(write(elsewhere, text)).providers["a"].models
    assert models["m"].given() == {"refused": frozenset(("seed",)), "reasoning": False, "answer_tokens": 9}
    assert models["n"].given() == {}
    with pytest.raises(ConfigError, match="no request field 'sed'"):
        load(write(elsewhere, "providers: {a: {type: groq, models: {m: {refused: [sed]}}}}\n"))
    spoken = "providers: {a: {type: openai, models: {m: {kind: speech, refused: [instructions, stream_format]}}}}\n"
    assert load(write(elsewhere, spoken)).providers["a"].models["m"].given()["kind"] == "speech"


def test_a_wrong_secret_is_not_repeated(elsewhere: Path) -> None:
    file = write(elsewhere, "providers: {far: {base_url: 'http://h', api_key: [sk-canary]}}\n")
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert "sk-canary" not in caught.value.message
