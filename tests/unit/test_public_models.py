"""The settings of a public model, and what a worker is told of it."""

from pathlib import Path

import msgspec
import pytest

from narthex.core.errors import ConfigError
from narthex.http.worker import WorkerSettings
from narthex.routing.route import Named, Rules
from narthex.serving import Machine, Planner
from narthex.settings import load

HEAD = "engine: {default: null}\nembedder: {default: null}\nproviders: {gpu: {base_url: 'http://h/v1'}, far: {base_url: 'http://f/v1'}}\n"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without a narthex.yaml."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def planned(folder: Path, row: str) -> Named:
    """What a worker is told of the model `m`, whose fields are `row`."""
    file = folder / "narthex.yaml"
    file.write_text(f"{HEAD}models: [{{name: m, {row}}}]\n")
    machine = Machine(memory_bytes=2**30, cores=1)
    plan = Planner(load(file), data=folder / "data", run_dir=folder / "run", machine=machine).plan()
    (worker,) = (child for child in plan.children if child.name == "worker-0")
    return msgspec.json.decode(worker.settings, type=WorkerSettings).names["m"]


def test_a_list_of_names_is_enough(elsewhere: Path) -> None:
    named = planned(elsewhere, "deployments: [gpu/big, far/small]")
    assert named == Named(deployments=("gpu/big", "far/small"), rules=Rules(attempts=3))


def test_streams_are_continued_where_all_run_the_same_model_or_where_it_is_said(elsewhere: Path) -> None:
    for row, rescues in {
        "deployments: [gpu/big]": True,
        "deployments: [gpu/big, far/big]": True,
        "deployments: [gpu/big, far/big], rescue: false": False,
        "deployments: [gpu/big, far/small]": False,
        "deployments: [gpu/big, far/small], rescue: true": True,
        "deployments: [gpu/big, far/Big]": False,
    }.items():
        assert planned(elsewhere, row).rules.rescue is rescues


def test_everything_that_can_be_said(elsewhere: Path) -> None:
    named = planned(
        elsewhere,
        "deployments: [{to: gpu/big, weight: 3}, far/small], strategy: least_busy,"
        " timeouts: {connect: 500ms, first_token: 30s, idle: 1.5, attempt: 2m, total: '300', min_tokens_per_s: 2.5},"
        " retry: {attempts: 5, backoff: 100ms, cooldown: 10s},"
        " fallbacks: {context_window: [far/wide], content_filter: [gpu/lax, far/lax]}",
    )
    assert (named.deployments, named.weights) == (("gpu/big", "far/small"), (3.0, 1.0))
    assert (named.context_window, named.content_filter) == (("far/wide",), ("gpu/lax", "far/lax"))
    assert named.rules == Rules(
        strategy="least_busy",
        attempts=5,
        backoff_s=0.1,
        cooldown_s=10.0,
        connect_s=0.5,
        first_token_s=30.0,
        idle_s=1.5,
        min_pieces_per_s=2.5,
        attempt_s=120.0,
        total_s=300.0,
    )


def test_weights_ask_to_be_heeded(elsewhere: Path) -> None:
    assert planned(elsewhere, "deployments: [{to: gpu/big, weight: 3}, far/small]").rules.strategy == "weighted"


def test_each_of_many_deployments_has_its_turn(elsewhere: Path) -> None:
    assert planned(elsewhere, "deployments: [gpu/1, gpu/2, gpu/3, gpu/4]").rules.attempts == 4


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("deployments: []", "deployments"),
        ("deployments: [{weight: 1}]", "to"),
        ("deployments: [{to: gpu/big, weight: -1}]", "weight"),
        ("deployments: [{to: gpu/big, weight: 0}]", "weight above 0"),
        ("deployments: [gpu/big, {to: gpu/big}]", "listed twice"),
        ("deployments: [gpu/big], fallbacks: {context_window: [far/a, far/a]}", "listed twice"),
        ("deployments: [{to: gpu/big}], strategy: fastest", "knows no weights"),
        ("deployments: [gpu/big], strategy: best", "strategy"),
        ("deployments: [gpu/big], timeouts: {idle: soon}", "timeouts.idle"),
        ("deployments: [gpu/big], timeouts: {idle: 0s}", "timeouts.idle"),
        ("deployments: [gpu/big], timeouts: {idle: -5}", "timeouts.idle"),
        ("deployments: [gpu/big], timeouts: {total: .inf}", "timeouts.total"),
        ("deployments: [gpu/big], timeouts: {min_tokens_per_s: 0}", "timeouts.min_tokens_per_s"),
        ("deployments: [gpu/big], timeouts: {min_tokens_per_s: .inf}", "timeouts.min_tokens_per_s"),
        ("deployments: [gpu/big], timeouts: {total: .nan}", "timeouts.total"),
        ("deployments: [{to: gpu/big, weight: .inf}]", "weight"),
        ("deployments: [gpu/big], retry: {attempts: 0}", "retry.attempts"),
        ("deployments: [gpu/big], retry: {cooldown: 1h}", "retry.cooldown"),
        ("deployments: [gpu/big], retries: 3", "retries"),
        ("deployments: [near/big]", "no provider 'near'"),
        ("deployments: [gpu/big], fallbacks: {context_window: [near/big]}", "no provider 'near'"),
        ("deployments: [gpu/big], fallbacks: {content_filter: [local/none]}", "local model 'none'"),
    ],
)
def test_what_is_wrong_is_named(elsewhere: Path, row: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        planned(elsewhere, row)
    assert said in caught.value.message
