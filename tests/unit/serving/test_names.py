"""Faults between settings: names that lead nowhere, or that two things have."""

from pathlib import Path

import pytest

from narthex.serving.following import Options
from narthex.serving.names import known_here, not_fetched
from narthex.settings import read

HEAD = "providers: {gpu: {base_url: 'http://h/v1'}}\n"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def faults(text: str) -> list[str]:
    Path("narthex.yaml").write_text(text)
    return [str(fault).partition(": ")[2] for fault in Options().read().faults]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("deployments: [gpi/x]", "models.0.deployments.0: there is no provider 'gpi'; did you mean 'gpu'?"),
        ("deployments: [gpu/x, gpu]", "models.0.deployments.1: needs the name of a model: gpu/<model>"),
        ("deployments: [{to: none/x, weight: 1}]", "models.0.deployments.0.to: there is no provider 'none'"),
        ("deployments: [local/smollm]", "models.0.deployments.0: there is no model 'smollm' here"),
        (
            "deployments: [gpu/x], fallbacks: {context_window: [a/b]}",
            "models.0.fallbacks.context_window.0: there is no provider 'a'",
        ),
        (
            "deployments: [gpu/x], fallbacks: {content_filter: [locl/b]}",
            "models.0.fallbacks.content_filter.0: there is no provider 'locl'; did you mean 'local'?",
        ),
    ],
)
def test_a_deployment_must_be_there(row: str, said: str) -> None:
    (fault,) = faults(f"{HEAD}models: [{{name: m, {row}}}]\n")
    assert fault.startswith(said)


def test_a_name_stands_for_one_thing() -> None:
    rows = ("a, deployments: [gpu/x]", "a, deployments: [gpu/y]", "all-minilm-l6-v2, deployments: [gpu/y]")
    text = f"{HEAD}models:\n" + "".join(f"- {{name: {row}}}\n" for row in rows)
    assert faults(text) == [
        "models.1.name: 'a' is the name of models.0 already",
        "models.2.name: 'all-minilm-l6-v2' is the name of a model of this server",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("providers: {local: {type: groq}}", "providers.local: the name stands for this server's own models"),
        ("providers: {a/b: {type: groq}}", "providers.a/b: a name must not be empty, and have no slash"),
        ("providers: {a: {base_url: 'ftp://h'}}", "providers.a.base_url: The address of a model's server must begin"),
        ('providers: {a: {type: groq, api_key: "x\\ny"}}', "providers.a.api_key: a key has only printable ASCII"),
        ("engine: {models: {m: {source: /no/file.gguf}}}", "engine.models.m.source: There is no file"),
        ("http: {tls: {cert: no.pem, key: no.pem}}", "http.tls.cert: the TLS file no.pem can't be read"),
    ],
)
def test_what_can_t_be_used_is_told_with_its_place(text: str, said: str) -> None:
    assert faults(text)[0].startswith(said)


def test_a_model_that_makes_images_needs_a_folder_and_a_name_of_its_own() -> None:
    Path("empty").mkdir()
    Path("pipe").mkdir()
    Path("pipe/model_index.json").touch()
    rows = ("all-minilm-l6-v2: {source: pipe}", "A/b: {source: pipe}", "e: {source: empty}", "g: {source: gone}")
    rows += ("n: {}", "h: {source: hf:x}", "i: {source: hf:o/r/m.gguf}", "j: {source: hf:o/r@main}")
    deployments = "models: [{name: painter, deployments: [local/ok, local/e]}]\n"
    assert faults(f"engine: {{images: {{ok: {{source: pipe}}, {', '.join(rows)}}}}}\n{deployments}") == [
        "engine.images.all-minilm-l6-v2: 'all-minilm-l6-v2' is the name of another model of this server",
        "engine.images.A/b: a name has only small letters, digits, '.', '_' and '-', such as 'a-b'",
        "engine.images.e.source: empty is no folder of a pipeline: it has no model_index.json",
        "engine.images.g.source: gone is no folder of a pipeline: it is not there",
        "engine.images.n: no model of this name is installed: give its `source`",
        "engine.images.h.source: hf:x is not of the form hf:owner/repo[/file.gguf][@revision].",
        "engine.images.i.source: hf:o/r/m.gguf names one file of a repository",
    ]


def test_a_neural_voice_needs_its_files_and_a_name_of_its_own(tmp_path: Path) -> None:
    for name in ("k.onnx", "v.bin"):
        (tmp_path / name).touch()
    files = "model: k.onnx, voices: v.bin"
    rows = "models: [{name: voice, deployments: [local/kokoro]}]\n"
    assert faults(f"speech: {{kokoro: {{{files}}}}}\n{rows}") == []
    (fault,) = faults(rows)
    assert fault.startswith("models.0.deployments.0: there is no model 'kokoro' here")
    assert faults(f"speech: {{kokoro: {{model: k.onnx, voices: none}}}}\n{rows}") == [
        f"speech.kokoro.voices: there is no file {tmp_path / 'none'}"
    ]
    other = "engine: {models: {kokoro: {url: 'http://h'}}}\n"
    assert faults(f"{other}speech: {{engine: off, kokoro: {{{files}}}}}\n") == [
        "speech.engine: kokoro needs an espeak-ng, which tells it how words are said",
        "speech.kokoro: 'kokoro' is the name of another model of this server",
    ]
    (fault,) = faults(f"speech: {{kokoro: {{{files}, names: {{nova: af_nova}}}}}}\n")
    assert fault.startswith("speech.kokoro.names.nova")


def test_images_of_an_invalid_file_are_told_of_too() -> None:
    told = faults("port: x\nengine: {images: {a: 3, g: {source: gone}}}\nmodels: [{name: m, deployments: [local/a]}]")
    assert "engine.images.g.source: gone is no folder of a pipeline: it is not there" in told
    assert not any("no model 'a'" in fault for fault in told)


def test_faults_between_settings_are_told_beside_invalid_ones() -> None:
    text = "port: x\nproviders: {gpu: {type: vllm}, 7: 7}\nengine: 5\n"
    text += "models: [{name: m, deployments: [gpu/x, cpu/x, 3]}, 4, {name: 5}]"
    told = faults(text)
    assert "models.0.deployments.1: there is no provider 'cpu'; did you mean 'gpu'?" in told
    assert any(fault.startswith("port") for fault in told)
    assert not any("'gpu'" in fault and "no provider" in fault and "cpu" not in fault for fault in told)


def test_names_of_an_invalid_file_are_not_judged_where_the_environment_says_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NARTHEX_PROVIDERS__CPU__TYPE", "groq")
    assert len(faults("port: x\nmodels: [{name: m, deployments: [cpu/x]}]")) == 1


def test_a_variable_that_is_not_set_is_all_that_is_said_of_it() -> None:
    assert faults("providers: {a: {base_url: ${NOWHERE}}}") == [
        "providers.a.base_url: the environment variable NOWHERE is not set"
    ]


def test_the_default_models_are_fetched_by_a_start_alone() -> None:
    Path("narthex.yaml").write_text("embedder: {default: null}\n")
    reading = read()
    assert known_here(reading) == {"smollm2-135m-instruct"}
    told = list(not_fetched(reading, Path("narthex-data")))
    assert [path for path, _ in told] == [("engine", "default")]
    Path("narthex.yaml").write_text("port: x\ndata: here\nengine: {default: null}\n")
    assert known_here(read()) == {"all-minilm-l6-v2"}
    assert list(not_fetched(read(), Path("narthex-data"))) == []
