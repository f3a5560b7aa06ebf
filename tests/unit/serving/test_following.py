"""A plan that is made anew: what is applied, what is kept, what is told."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from narthex.http.worker import WorkerSettings
from narthex.serving import Machine
from narthex.serving.following import FIXED, Following, Options, plan_of, replan
from narthex.supervisor.plan import Plan, Replanned
from narthex.supervisor.replan import changed

MACHINE = Machine(memory_bytes=2**30, cores=1)
HEAD = "engine: {default: null}\nembedder: {default: null}\n"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def start(text: str = "", **options: Any) -> Plan:
    Path("narthex.yaml").write_text(HEAD + text)
    given = Options(config="narthex.yaml", **options)
    settings = given.read().checked()
    if settings.port == 0:
        settings = settings.model_copy(update={"port": 4567})
    return plan_of(settings, given, data=settings.data.absolute(), run_dir=Path("run"), machine=MACHINE)


def again(plan: Plan, text: str, *, head: str = HEAD) -> Replanned:
    Path("narthex.yaml").write_text(head + text)
    assert plan.replan is not None
    return replan(msgspec.json.decode(plan.replan.settings, type=Following), machine=MACHINE)


def worker(plan: Plan | None) -> WorkerSettings:
    assert plan is not None
    (found,) = (child for child in plan.children if child.name == "worker-0")
    return msgspec.json.decode(found.settings, type=WorkerSettings)


def test_the_same_settings_make_the_same_plan() -> None:
    plan = start("providers: {a: {type: groq, models: {m: {refused: [seed, stop, n]}}}}\n")
    told = again(plan, "providers: {a: {type: groq, models: {m: {refused: [seed, stop, n]}}}}\n")
    assert told.plan is not None
    assert told.needs_restart == []
    assert changed(plan, told.plan) == []


def test_each_setting_that_differs_is_named_once() -> None:
    plan = start("providers: {a: {type: groq}, b: {type: groq}}\nmodels: [{name: m, deployments: [a/x]}]\n")
    text = (
        "providers: {a: {type: groq, api_key: x}, c: {type: groq}}\n"
        "models: [{name: n, deployments: [a/x]}, {name: m, deployments: [a/x]}]\n"
        "http: {drain_s: 5, trusted_proxies: [127.0.0.1]}\n"
    )
    told = again(plan, text)
    assert told.plan is not None
    assert changed(plan, told.plan) == [
        "http.drain_s",
        "http.trusted_proxies",
        "models.n",
        "providers.a",
        "providers.b",
        "providers.c",
    ]
    assert (worker(told.plan).drain_s, told.plan.drain_timeout_s) == (5, 5)
    assert worker(told.plan).trusted_proxies == ("127.0.0.1",)


def test_what_can_t_change_keeps_its_running_value_and_is_named() -> None:
    plan = start("port: 4000\n")
    pem = Path("x.pem")
    pem.touch()
    text = (
        "port: 4001\nhost: 127.0.0.2\ndata: elsewhere\nworkers: 3\nlog: {format: json}\n"
        "http: {tls: {cert: x.pem, key: x.pem}, lenient: true}\n"
    )
    told = again(plan, text, head="engine: {default: null}\nembedder: {default: null, threads: 2}\n")
    assert told.needs_restart == list(FIXED)
    assert told.plan is not None
    assert changed(plan, told.plan) == ["http.lenient"]
    assert (told.plan.port, told.plan.host, told.plan.data_dir) == (4000, plan.host, plan.data_dir)
    assert (told.plan.scheme, told.plan.log_format) == ("http", "auto")
    assert again(told.plan, text).needs_restart == [name for name in FIXED if name != "embedder.threads"]


def test_a_free_port_stays_the_one_that_was_found() -> None:
    plan = start("port: 0\n")
    told = again(plan, "port: 0\n")
    assert told.plan is not None
    assert (told.plan.port, told.needs_restart) == (4567, [])


def test_the_command_line_still_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = start(port=4000, workers=1)
    monkeypatch.setenv("NARTHEX_HTTP__LENIENT", "true")
    told = again(plan, "port: 5000\nworkers: 9\n")
    assert told.needs_restart == []
    assert worker(told.plan).lenient


def test_certificates_may_move_but_not_appear_or_vanish() -> None:
    for name in ("a.pem", "b.pem"):
        Path(name).touch()
    plan = start(tls_cert="a.pem", tls_key="a.pem")
    assert plan.scheme == "https"
    plan = start("http: {tls: {cert: a.pem, key: a.pem}}\n")
    told = again(plan, "http: {tls: {cert: b.pem, key: b.pem}}\n")
    assert (told.needs_restart, worker(told.plan).tls_cert) == ([], "b.pem")
    told = again(plan, "http: {lenient: true}\n")
    assert (told.needs_restart, worker(told.plan).tls_cert) == (["http.tls"], "a.pem")


def test_every_fault_is_told_and_there_is_no_plan() -> None:
    plan = start()
    told = again(plan, "prot: 1\nmodels: [{name: m, deployments: [a/x]}]\n")
    assert told.plan is None
    assert [fault.partition(": ")[0] for fault in told.faults] == ["narthex.yaml:3:1", "narthex.yaml:4:34"]
    Path("narthex.yaml").unlink()
    assert plan.replan is not None
    gone = replan(msgspec.json.decode(plan.replan.settings, type=Following), machine=MACHINE)
    assert gone.faults == ["narthex.yaml: No such file or directory"]


def test_models_are_not_fetched_while_the_server_runs() -> None:
    plan = start()
    told = again(plan, "", head="embedder: {default: null}\n")
    (fault,) = told.faults
    assert fault.startswith("engine.default: 'smollm2-135m-instruct' is not installed; `narthex models pull smollm2")
    told = again(plan, "", head=HEAD.replace("null}", "null, models: {m: {source: 'hf:a/b'}}}", 1))
    assert told.plan is None
    assert told.faults
