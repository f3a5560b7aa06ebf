"""The settings of what is fetched for callers and of providers' models, and what a worker is told of them."""

from pathlib import Path

import msgspec
import pytest

from narthex.core.errors import ConfigError
from narthex.http.worker import WorkerSettings
from narthex.serving import Machine, Planner
from narthex.settings import load
from narthex.upstream.egress import Egress

HEAD = "engine: {default: null}\nembedder: {default: null}\n"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without a narthex.yaml."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def planned(folder: Path, text: str) -> WorkerSettings:
    file = folder / "narthex.yaml"
    file.write_text(HEAD + text)
    machine = Machine(memory_bytes=2**30, cores=1)
    plan = Planner(load(file), data=folder / "data", run_dir=folder / "run", machine=machine).plan()
    (worker,) = (child for child in plan.children if child.name == "worker-0")
    return msgspec.json.decode(worker.settings, type=WorkerSettings)


def test_images_are_fetched_from_public_addresses_unless_told_otherwise(elsewhere: Path) -> None:
    assert planned(elsewhere, "").egress == Egress()
    allow = "[images.internal, '10.0.0.0/8:9000', 'fd00::/8']"
    text = f"egress: {{images: refuse, max_bytes: 5, timeout: 500ms, allow: {allow}}}"
    assert planned(elsewhere, text).egress == Egress(
        images="refuse", max_bytes=5, timeout_s=0.5, allow=("images.internal", "10.0.0.0/8:9000", "fd00::/8")
    )


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("allow: [10.1.2.3/8]", "'10.1.2.3/8' is no address"),
        ("allow: ['http://a/']", "is no address, network or host name"),
        ("images: pass", "fetch"),
        ("max_bytes: 0", "greater than 0"),
        ("timeout: .inf", "finite"),
    ],
)
def test_what_makes_no_sense_is_refused(elsewhere: Path, row: str, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        planned(elsewhere, f"egress: {{{row}}}")
    assert "egress" in refused.value.message
    assert words in refused.value.message


def test_what_a_name_tells_of_a_model_may_be_said_otherwise(elsewhere: Path) -> None:
    models = "claude-opus-5: {prefill: true, answer_tokens: 9}, claude-3-haiku-20240307: {answer_tokens: 9}"
    provider = planned(elsewhere, f"providers: {{claude: {{type: anthropic, models: {{{models}}}}}}}").providers[
        "claude"
    ]
    newer, older = provider.models["claude-opus-5"], provider.models["claude-3-haiku-20240307"]
    assert (newer.prefill, newer.adaptive, newer.json_schema, newer.answer_tokens) == (True, True, True, 9)
    assert (older.prefill, older.adaptive, older.json_schema, older.answer_tokens) == (True, False, False, 9)


def test_the_kind_of_a_model_may_be_said(elsewhere: Path) -> None:
    models = "{big: {kind: embedding}, small: {reasoning: true}}"
    provider = planned(elsewhere, f"providers: {{far: {{base_url: 'http://f/v1', models: {models}}}}}").providers["far"]
    assert (provider.models["big"].kind, provider.models["small"].kind) == ("embedding", None)
