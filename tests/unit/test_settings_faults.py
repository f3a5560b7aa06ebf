"""What is said of wrong settings: every fault at once, each with its place, and never a value."""

from pathlib import Path

import msgspec
import pytest

from narthex.settings import Fault, Invalid, load, read

CANARY = "sk-canary-0123456789"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without a narthex.yaml."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def faults(text: str) -> list[str]:
    Path("narthex.yaml").write_text(text)
    return list(map(str, read().faults))


def test_each_fault_has_file_line_column_and_path() -> None:
    text = (
        "port: x\n"
        "http:\n"
        "  drain_s: -1\n"
        "models:\n"
        "  - name: a\n"
        "    deployments: [gpu/x]\n"
        "  - {name: b, deployments: [gpu/x], strategy: best}\n"
    )
    assert [fault.partition(": ")[0] for fault in faults(text)] == [
        "narthex.yaml:1:1",
        "narthex.yaml:3:3",
        "narthex.yaml:7:37",
    ]
    assert [fault.split(": ")[1] for fault in faults(text)] == ["port", "http.drain_s", "models.1.strategy"]


def test_a_setting_that_is_not_there_is_told_where_it_should_be() -> None:
    assert faults("http:\n  tls:\n    cert: a\n") == ["narthex.yaml:2:3: http.tls.key: is required"]
    assert faults("models: [{name: a}]") == ["narthex.yaml:1:10: models.0.deployments: is required"]


@pytest.mark.parametrize(
    ("text", "path", "meant"),
    [
        ("prot: 1", "prot", "port"),
        ("http: {drian_s: 1}", "http.drian_s", "drain_s"),
        ("providers: {a: {base_url: 'http://h', api_kye: x}}", "providers.a.api_kye", "api_key"),
        ("providers: {a: {type: groq, models: {m: {refuse: []}}}}", "providers.a.models.m.refuse", "refused"),
        ("models: [{name: a, deployments: [b/c], strateggy: order}]", "models.0.strateggy", "strategy"),
        ("models: [{name: a, deployments: [b/c], retry: {atempts: 1}}]", "models.0.retry.atempts", "attempts"),
        ("models: [{name: a, deployments: [{to: b/c, wieght: 1}]}]", "models.0.deployments.0.wieght", "weight"),
        ("engine: {models: {m: {thread: 1}}}", "engine.models.m.thread", "threads"),
    ],
)
def test_an_unknown_name_is_told_with_what_may_have_been_meant(text: str, path: str, meant: str) -> None:
    (said,) = faults(text)
    assert said.endswith(f": {path}: there is no such setting; did you mean '{meant}'?")


def test_a_name_like_no_other_is_told_without_a_guess() -> None:
    assert faults("qqqqqq: 1") == ["narthex.yaml:1:1: qqqqqq: there is no such setting"]
    assert faults("5: 1") == ["narthex.yaml:1:1: 5: there is no such setting"]


def test_an_entry_that_is_neither_text_nor_map_is_told_once() -> None:
    (said,) = faults("models: [{name: a, deployments: [b/c, 5]}]")
    assert said == "narthex.yaml:1:39: models.0.deployments.1: Input should be a valid string"


def test_a_name_that_stands_twice_is_told_with_both_lines() -> None:
    text = "providers:\n  a: {type: groq}\n  b: {type: groq}\n  a: {type: openai, type: groq}\nport: 1\nport: 2\n"
    assert faults(text) == [
        "narthex.yaml:4:3: providers.a: stands here for the second time, after line 2",
        "narthex.yaml:4:21: providers.a.type: stands here for the second time, after line 4",
        "narthex.yaml:6:1: port: stands here for the second time, after line 5",
    ]


def test_aliases_and_merged_maps_are_no_duplicates() -> None:
    text = "providers:\n  a: &a {type: groq, idle_s: 3}\n  b: {<<: *a, idle_s: 4}\n  c: {<<: [*a, *a]}\n  d: *a\n"
    assert faults(text) == []
    assert load().providers["b"].idle_s == 4


def test_every_variable_that_is_not_set_is_told_and_not_what_follows_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SET", "1")
    text = "port: ${NO_PORT}\nworkers: ${SET}\nproviders: {a: {type: openai, api_key: ${NO_KEY}, idle_s: x}}\n"
    assert [fault.split(": ", 1)[1] for fault in faults(text)] == [
        "port: the environment variable NO_PORT is not set",
        "providers.a.api_key: the environment variable NO_KEY is not set",
        "providers.a.idle_s: Input should be a valid number, unable to parse string as a number",
    ]


def test_variables_need_no_quotes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "a: {b}, ${A_KEY} # c")
    Path("narthex.yaml").write_text(
        "providers:\n  a: {type: openai, api_key: ${A_KEY}}\n  b: {type: groq, api_key: '${A_KEY}'}\n"
    )
    keys = [row.api_key.get_secret_value() for row in load().providers.values() if row.api_key]
    assert keys == ["a: {b}, ${A_KEY} # c"] * 2
    assert "${A_KEY}" in faults("providers: {${A_KEY}: {type: none}}")[0]


@pytest.mark.parametrize(
    "text",
    [
        f"providers: {{a: {{api_key: x: {CANARY}}}}}",
        f"providers:\n  a:\n   api_key: '{CANARY}\n",
        f"providers: {{a: {{api_key: [{CANARY}]}}}}",
        f"port: {CANARY}",
        f"port: !!int {CANARY}",
        f"port: !secret {CANARY}",
        f"providers: {{a: {{type: groq, idle_s: {CANARY}, models: {CANARY}}}}}",
        "providers: {a: {type: groq, models: {m: {reasoning: " + CANARY + "}}}}",
    ],
)
def test_no_value_is_ever_repeated(text: str) -> None:
    said = faults(text)
    assert said
    assert CANARY not in "".join(said)
    with pytest.raises(Invalid) as caught:
        load()
    assert CANARY not in caught.value.message + repr(caught.value.faults)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a: [", "narthex.yaml:1:5: not valid YAML: expected the node content"),
        (b"\xff\xfe\xff", "narthex.yaml: not valid YAML: it is not a text in UTF-8"),
        (b"[" * 3000, "narthex.yaml: not valid YAML: nested too deeply"),
        (b"port: 2024-13-45", "narthex.yaml: not valid YAML: a value can't be read as what it seems to be"),
        (b"--- {}\n--- {}", "narthex.yaml:2:1: not valid YAML: but found another document"),
        (b"a: *b", "narthex.yaml:1:4: not valid YAML: found undefined alias 'b'"),
        (b"? [a]\n: b", "not valid YAML"),
        (b"text", "narthex.yaml:1:1: the file must hold a map of settings"),
        (b"a: \x00", "not valid YAML"),
    ],
)
def test_what_is_no_yaml_is_told_in_a_line(content: bytes, said: str) -> None:
    Path("narthex.yaml").write_bytes(content)
    (fault,) = read().faults
    assert said in str(fault)


def test_a_map_that_holds_itself_ends_nowhere() -> None:
    assert any("providers.a.b" in fault for fault in faults("providers: &p\n  a: {b: *p}\n"))


def test_what_the_environment_says_wrongly_has_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NARTHEX_PORT", "x")
    assert faults("workers: 0")[0].startswith("port: ")
    assert faults("workers: 0")[1].startswith("narthex.yaml:1:1: workers: ")


def test_a_fault_for_programs() -> None:
    fault = Fault(path="a.b", message="wrong", file="f", line=1, column=2)
    assert msgspec.json.encode(fault) == b'{"path":"a.b","message":"wrong","file":"f","line":1,"column":2}'
    assert str(Fault(path="", message="wrong")) == "wrong"


@pytest.mark.parametrize(
    ("text", "place", "name"),
    [
        ("extra_headers: [x-team, Authorization]", "3:30: providers.a.extra_headers.1", "Authorization"),
        ('extra_headers: ["a\\r\\nb"]', "3:22: providers.a.extra_headers.0", "a\r\nb"),
        ("extra_headers: [x-forwarded-for]", "3:22: providers.a.extra_headers.0", "x-forwarded-for"),
        ("extra_params: [mirostat, tokenize]", "3:31: providers.a.extra_params.1", "tokenize"),
        ("extra_params: [Messages]", "3:21: providers.a.extra_params.0", "Messages"),
    ],
)
def test_what_no_caller_may_add_can_t_be_allowed(text: str, place: str, name: str) -> None:
    (said,) = faults(f"providers:\n  a:\n     {text}\n     type: groq\n")
    assert said.startswith(f"narthex.yaml:{place}: '{name}' can't be allowed: ")


def test_what_a_model_s_callers_may_add_is_its_own_where_it_says_so() -> None:
    Path("narthex.yaml").write_text(
        "providers:\n  a: {type: groq, extra_params: [x], extra_headers: [X-A],"
        " models: {m: {extra_params: []}, n: {}}}\n"
    )
    provider = load(Path("narthex.yaml")).providers["a"]
    assert (provider.extra_params, provider.extra_headers) == (("x",), ("x-a",))
    assert provider.models["m"].given() == {"extra_params": frozenset()}
    assert provider.models["n"].given() == {}
