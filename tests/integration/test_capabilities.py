"""`GET /v1/capabilities`, and each of its cells held against what the running server does with the field.

A field without a value in `VALUES`, or a limit without a value in `BEYOND`, fails here: a new one is written down.
"""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.raw_asgi import Caller
from tests.server_process import CHAT_MODEL, EMBEDDING_MODEL, SLASHED, Server
from tests.walk.embedded import LOOKS, UNSEEN, Probe

from narthex.app.worker import open_worker
from narthex.core.completions import OTHER_NAMES
from narthex.dialects import openai_chat, openai_completions, openai_embeddings, scale_chat, scale_completions
from narthex.http.capabilities import KNOWN
from narthex.http.worker import RemoteProvider, WorkerSettings
from narthex.routing.route import Named
from narthex.storage.sqlite.control import open_control
from narthex.testing.scripted import END, Reply, ScriptedUpstream, sse, stream_head

pytest_plugins = ["tests.models_fixture", "tests.server_fixture", "tests.client_fixture"]
pytestmark = pytest.mark.patient

Body = dict[str, Any]

MODELS = {"chat": CHAT_MODEL, "completions": CHAT_MODEL, "embeddings": EMBEDDING_MODEL}
PATHS = {"chat": "/v1/chat/completions", "completions": "/v1/completions", "embeddings": "/v1/embeddings"}
HELLO = [{"role": "user", "content": "Hi"}]
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "capabilities.md"
BEGUN = [*HELLO, {"role": "assistant", "content": "Well,"}]
BASE: dict[str, Body] = {
    "chat": {"model": CHAT_MODEL, "messages": HELLO, "max_tokens": 2},
    "completions": {"model": CHAT_MODEL, "prompt": "Hi", "max_tokens": 2},
    "embeddings": {"model": EMBEDDING_MODEL, "input": "Hi"},
}

# --- the table: for each field a value that asks for something, and what has to stand beside it ----------------------

SCHEMA = {"type": "object", "properties": {"a": {"enum": ["b"]}}, "required": ["a"], "additionalProperties": False}
FUNCTION = {"name": "look", "description": "Look.", "parameters": SCHEMA}
TOOLS = [{"type": "function", "function": FUNCTION}]
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}

SHARED: dict[str, Body] = {
    "model": {},
    "frequency_penalty": {"frequency_penalty": 0.5},
    "presence_penalty": {"presence_penalty": -0.5},
    "logit_bias": {"logit_bias": {"100": 5}},
    "n": {"n": 2},
    "seed": {"seed": 7},
    "stop": {"stop": ["\n\n"]},
    "stream": {"stream": True},
    "stream_options": {"stream_options": {"include_usage": True}, "stream": True},
    "temperature": {"temperature": 0.5},
    "top_p": {"top_p": 0.5},
    "user": {"user": "u-1"},
}
EXTENSIONS: dict[str, Body] = {
    "best_of": {"best_of": 2},
    "top_k": {"top_k": 5},
    "min_p": {"min_p": 0.1},
    "repetition_penalty": {"repetition_penalty": 1.1},
    "stop_token_ids": {"stop_token_ids": [2]},
    "include_stop_str_in_output": {"include_stop_str_in_output": True, "stop": ["\n\n"]},
    "ignore_eos": {"ignore_eos": True},
    "min_tokens": {"min_tokens": 1},
    "length_penalty": {"length_penalty": 1.5},
    "use_beam_search": {"use_beam_search": True},
    "early_stopping": {"early_stopping": True},
    "add_special_tokens": {"add_special_tokens": True},
    "echo": {"echo": True},
    "add_generation_prompt": {"add_generation_prompt": False},
    "continue_final_message": {"continue_final_message": True},
    "chat_template": {"chat_template": "{{ messages[0].content }}"},
    "chat_template_kwargs": {"chat_template_kwargs": {"enable_thinking": True}},
    "guided_json": {"guided_json": SCHEMA},
    "guided_regex": {"guided_regex": "[0-9]{2}"},
    "guided_choice": {"guided_choice": ["yes", "no"]},
    "guided_grammar": {"guided_grammar": 'root ::= "yes" | "no"'},
    "guided_decoding_backend": {"guided_decoding_backend": "outlines"},
    "guided_whitespace_pattern": {"guided_whitespace_pattern": "[ ]?", "guided_json": SCHEMA},
    "structured_outputs": {"structured_outputs": {"choice": ["yes", "no"]}},
    "memory_strategy": {"memory_strategy": {"name": "last_k", "k": 1}},
    "token_budget": {"token_budget": 1000},
    "suffix": {"suffix": " the end."},
    "inference_timeout": {"inference_timeout": 30},
    "inference_extra_params": {"inference_extra_params": {"mirostat": 1}},
    "inference_extra_headers": {"inference_extra_headers": {"x-team": "a"}},
}
VALUES: dict[str, dict[str, Body]] = {
    "chat": SHARED
    | EXTENSIONS
    | {
        "continue_final_message": {"continue_final_message": True, "messages": BEGUN},
        "chat_template_kwargs": {"chat_template_kwargs": {}},
        "messages": {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]},
        "store": {"store": True},
        "metadata": {"metadata": {"a": "b"}, "store": True},
        "logprobs": {"logprobs": True},
        "top_logprobs": {"top_logprobs": 2, "logprobs": True},
        "max_tokens": {"max_tokens": 1},
        "max_completion_tokens": {"max_completion_tokens": 1},
        "modalities": {"modalities": ["text"]},
        "prediction": {"prediction": {"type": "content", "content": "Hello"}},
        "audio": {"audio": {"voice": "alloy", "format": "wav"}},
        "response_format": {"response_format": {"type": "json_object"}},
        "service_tier": {"service_tier": "default"},
        "tools": {"tools": TOOLS},
        "tool_choice": {"tool_choice": "required", "tools": TOOLS},
        "parallel_tool_calls": {"parallel_tool_calls": False},
        "functions": {"functions": [FUNCTION]},
        "function_call": {"function_call": {"name": "look"}, "functions": [FUNCTION]},
        "reasoning_effort": {"reasoning_effort": "low"},
        "verbosity": {"verbosity": "low"},
        "web_search_options": {"web_search_options": {"search_context_size": "low"}},
        "safety_identifier": {"safety_identifier": "u-1"},
        "prompt_cache_key": {"prompt_cache_key": "k"},
        "prompt_cache_retention": {"prompt_cache_retention": "24h"},
        "prompt_cache_options": {"prompt_cache_options": {"mode": "implicit"}},
        "moderation": {"moderation": {"model": "omni-moderation-latest"}},
    },
    "completions": SHARED
    | EXTENSIONS
    | {"prompt": {"prompt": [1, 2, 3]}, "logprobs": {"logprobs": 1}, "max_tokens": {"max_tokens": 1}},
    "embeddings": {
        "model": {},
        "input": {"input": ["Hi", "there"]},
        "encoding_format": {"encoding_format": "base64"},
        "dimensions": {"dimensions": 64},
        "user": {"user": "u-1"},
    },
}
FURTHER: Body = {
    "repetition_penalty": 1000,
    "structured_outputs": {"json": SCHEMA, "disable_additional_properties": True},
}
BEYOND: dict[tuple[str, str], Body] = {
    ("chat", "messages"): {"messages": [{"role": "user", "content": [PICTURE]}]},
    ("chat", "chat_template_kwargs"): {"chat_template_kwargs": {"enable_thinking": True}},
    ("chat", "modalities"): {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}},
    ("chat", "tools"): {"tools": [{"type": "custom", "custom": {"name": "f"}}]},
    **{(surface, name): {name: value} for surface in ("chat", "completions") for name, value in FURTHER.items()},
}
"""Values outside of a field's limits; those of a refused field are its exceptions, and every value is outside."""

CELLS = [(surface, field) for surface, values in VALUES.items() for field in values]


# --- the cells -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table(shallow_http: httpx2.Client) -> dict[str, Body]:
    """What the server says of its own models, by surface."""
    listed = {row["id"]: row["deployments"] for row in shallow_http.get("/v1/capabilities").json()["data"]}
    return {surface: listed[model][0]["surfaces"][surface] for surface, model in MODELS.items()}


@pytest.fixture(scope="module")
def probes(shallow_http: httpx2.Client) -> dict[str, Probe]:
    bases = {
        surface: {name: each for name, each in base.items() if name != "max_tokens"} for surface, base in BASE.items()
    }
    return {surface: Probe(shallow_http, PATHS[surface], base) for surface, base in bases.items()}


def _asked(http: httpx2.Client, surface: str, fields: Body) -> httpx2.Response:
    """The answer to a small request. `fields` come first: of several that are refused, the first is named."""
    return http.post(PATHS[surface], json=fields | {k: v for k, v in BASE[surface].items() if k not in fields})


def _refused(answer: httpx2.Response, field: str) -> bool:
    if answer.status_code != 400:
        return False
    error = answer.json()["error"]
    at_field = error["param"] == field or error["param"].startswith((f"{field}[", f"{field}."))
    return at_field and error["code"] in {"unsupported_parameter", "unsupported_value"}


def test_every_field_that_is_known_has_a_cell_and_a_value(table: dict[str, Body]) -> None:
    forms = {"chat": openai_chat.FORM, "completions": openai_completions.FORM, "embeddings": openai_embeddings.FORM}
    for surface, form in forms.items():
        assert set(table[surface]) == set(VALUES[surface]) == set(form.known) == set(KNOWN[surface]), surface


@pytest.mark.parametrize(("surface", "field"), CELLS)
def test_a_field_is_treated_as_its_cell_says(
    surface: str, field: str, *, table: dict[str, Body], shallow_http: httpx2.Client, probes: dict[str, Probe]
) -> None:
    """One that is honoured shows in the answers."""
    state = table[surface][field]["state"]
    answer = _asked(shallow_http, surface, VALUES[surface][field])
    if state == "refused":
        assert _refused(answer, field), answer.text
        return
    assert answer.status_code == 200, answer.text
    ignored = answer.headers.get("x-narthex-ignored", "").split(", ")
    assert (field in ignored) is (state == "no effect")
    if state != "no effect":
        assert state in {"native", "emulated"}
        assert field in UNSEEN or LOOKS[surface][field](probes[surface])


@pytest.mark.parametrize(("surface", "field"), CELLS)
def test_limits_are_where_the_cell_says(
    surface: str, field: str, *, table: dict[str, Body], shallow_http: httpx2.Client
) -> None:
    cell = table[surface][field]
    assert cell.get("limits") != ""
    if (limits := cell.get("limits")) is None:
        assert (surface, field) not in BEYOND
    elif cell["state"] == "refused":
        passing = json.loads(limits.removeprefix("except "))
        assert _asked(shallow_http, surface, {field: passing}).status_code == 200
    else:
        answer = _asked(shallow_http, surface, BEYOND[surface, field])
        assert _refused(answer, field), answer.text


# --- the same fields on Scale's API ----------------------------------------------------------------------------------

SCALE_PATHS = {"chat": "/v4/beta/chat/completions", "completions": "/v4/beta/completions"}
SCALE_FORMS = {"chat": scale_chat.FORM, "completions": scale_completions.FORM}
SCALE_VALUES: dict[str, Body] = {
    "prompt": {"prompt": "Hi there"},
    "logprobs": {"logprobs": True},
    "top_logprobs": {"top_logprobs": 20, "logprobs": True},
    "return_token_log_probs": {"return_token_log_probs": True},
    "max_completion_tokens": {"max_completion_tokens": 1},
    "max_new_tokens": {"max_new_tokens": 1},
    "stop_sequences": {"stop_sequences": ["END"]},
    "modalities": {"modalities": ["text", "audio"]},
    "tool_choice": {"tool_choice": "auto"},
}
"""Of its text completions; the others are as in `VALUES`."""
SCALE_CELLS = [(surface, field) for surface, form in SCALE_FORMS.items() for field in form.known]


def test_how_many_fields_there_are(record_property: Any) -> None:
    counts = {PATHS[surface]: len(values) for surface, values in VALUES.items()}
    counts |= {SCALE_PATHS[surface]: len(form.known) for surface, form in SCALE_FORMS.items()}
    record_property("fields", sum(counts.values()))
    print(f"\n{sum(counts.values())} fields:", ", ".join(f"{path} {count}" for path, count in counts.items()))


@pytest.mark.parametrize(("surface", "field"), SCALE_CELLS)
def test_a_field_of_scales_api_is_treated_as_the_cell_of_its_twin_says(
    surface: str, field: str, *, table: dict[str, Body], shallow_http: httpx2.Client
) -> None:
    name = OTHER_NAMES.get(field, field) if surface == "completions" else field
    state = table[surface].get(name, {"state": "refused"})["state"]
    further = SCALE_VALUES if surface == "completions" else {}
    fields = (VALUES["chat"] | VALUES[surface] | further)[field]
    left = {key: value for key, value in BASE[surface].items() if key not in {*fields, *({name} - {field})}}
    answer = shallow_http.post(SCALE_PATHS[surface], json=fields | left)
    if state == "refused":
        assert _refused(answer, field), answer.text
        assert answer.json()["detail"] == answer.json()["error"]["message"]
        return
    assert answer.status_code == 200, answer.text
    ignored = answer.headers.get("x-narthex-ignored", "").split(", ")
    assert (field in ignored) is (state == "no effect")


@pytest.mark.parametrize("surface", PATHS)
def test_the_page_says_the_same(surface: str, table: dict[str, Body]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    section = page.partition(f"## `POST {PATHS[surface]}`")[2].partition("\n## ")[0]
    rows = [line.split(" | ") for line in section.splitlines() if line.startswith("| `")]
    told = {row[0].strip("| `"): row[1].removesuffix(" |") for row in rows}
    assert set(told) == set(table[surface])
    for field, cell in table[surface].items():
        assert told[field].startswith(cell["state"]), field
        assert cell.get("limits", "") in told[field].replace("`", ""), field


# --- a server elsewhere, whose cells are walked in `test_walk.py` -----------------------------------------------------


class Elsewhere:
    """A worker whose one model is served by an upstream, and that upstream."""

    def __init__(self, application: Any, upstream: ScriptedUpstream, *, key: str) -> None:
        self._application, self._key = application, key
        self.upstream = upstream

    async def ask(self, method: str, path: str, body: Body | None = None, *, query: str = "") -> Caller:
        headers = {"x-api-key": self._key}
        caller = Caller(json.dumps(body).encode(), method=method, path=path, headers=headers)
        caller.scope["query_string"] = query.encode()
        return await caller.call(self._application)


def _chunk(choice: int) -> bytes:
    delta = {"index": choice, "delta": {"content": "Hi"}, "finish_reason": "stop"}
    return json.dumps({"choices": [delta]}).encode()


@pytest.fixture
async def elsewhere(tmp_path: Path) -> AsyncIterator[Elsewhere]:
    control = await open_control(tmp_path / "control.db", clock=lambda: 0)
    made = await control.keys.ensure_admin()
    await control.aclose()
    assert made is not None
    async with ScriptedUpstream(Reply(stream_head(), sse(_chunk(0), _chunk(1), b"[DONE]"), END)) as upstream:
        settings = WorkerSettings(
            name="worker-0",
            data_dir=str(tmp_path),
            run_dir=str(tmp_path),
            models=(),
            names={"theirs": Named(deployments=("there/big",)), "*": Named(deployments=("there/small",))},
            providers={"there": RemoteProvider(type="openai", base_url=upstream.url)},
        )
        async with open_worker(settings) as worker:
            yield Elsewhere(worker.application, upstream, key=made[1].reveal())


@pytest.mark.anyio
async def test_a_name_that_only_the_star_takes_can_be_asked_for(elsewhere: Elsewhere) -> None:
    listed = (await elsewhere.ask("GET", "/v1/capabilities")).json()["data"]
    assert [row["id"] for row in listed] == ["theirs"]
    (row,) = (await elsewhere.ask("GET", "/v1/capabilities", query="model=any%2Fname")).json()["data"]
    assert (row["id"], [each["name"] for each in row["deployments"]]) == ("any/name", ["there/small"])


# --- the endpoint ----------------------------------------------------------------------------------------------------


def test_every_model_has_its_deployments_and_their_surfaces(shallow_http: httpx2.Client) -> None:
    listed = shallow_http.get("/v1/capabilities").json()
    assert listed["object"] == "list"
    assert [row["id"] for row in listed["data"]] == [row["id"] for row in shallow_http.get("/v1/models").json()["data"]]
    rows = {row["id"]: row for row in listed["data"]}
    assert {row["object"] for row in rows.values()} == {"model.capabilities"}
    surfaces = {
        name: {each["name"]: sorted(each["surfaces"]) for each in row["deployments"]} for name, row in rows.items()
    }
    assert surfaces == {
        CHAT_MODEL: {f"local/{CHAT_MODEL}": ["chat", "completions"]},
        SLASHED: {f"local/{CHAT_MODEL}": ["chat", "completions"]},
        EMBEDDING_MODEL: {f"local/{EMBEDDING_MODEL}": ["embeddings"]},
    }
    trusted, plain = (rows[name]["deployments"] for name in (SLASHED, CHAT_MODEL))
    templates = [each[0]["surfaces"]["chat"].pop("chat_template")["state"] for each in (trusted, plain)]
    assert (templates, trusted) == (["native", "refused"], plain)


@pytest.mark.parametrize("written", [SLASHED, SLASHED.replace("/", "%2F")])
def test_one_model_may_be_named(written: str, shallow_http: httpx2.Client) -> None:
    whole = {row["id"]: row for row in shallow_http.get("/v1/capabilities").json()["data"]}
    assert shallow_http.get(f"/v1/capabilities?model={written}&unheard=of").json()["data"] == [whole[SLASHED]]


@pytest.mark.parametrize("name", ["nobody", "", "local/" + CHAT_MODEL])
def test_an_unknown_model_is_not_found(name: str, shallow_http: httpx2.Client) -> None:
    answer = shallow_http.get("/v1/capabilities", params={"model": name})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")


def test_a_model_that_is_not_granted_does_not_exist(shallow_server: Server) -> None:
    with shallow_server.http(shallow_server.key(models=(EMBEDDING_MODEL,), name="capabilities of one")) as client:
        listed = client.get("/v1/capabilities").json()["data"]
        denied = client.get("/v1/capabilities", params={"model": CHAT_MODEL})
        unknown = client.get("/v1/capabilities", params={"model": "x" * len(CHAT_MODEL)})
    assert [row["id"] for row in listed] == [EMBEDDING_MODEL]
    assert denied.status_code == unknown.status_code == 404
    assert denied.text == unknown.text.replace("x" * len(CHAT_MODEL), CHAT_MODEL)


@pytest.mark.parametrize(
    ("query", "param"), [("model=a&model=b", "model"), ("&".join(f"p{i}=1" for i in range(101)), None)]
)
def test_a_query_that_means_nothing_is_refused(query: str, param: str | None, shallow_http: httpx2.Client) -> None:
    answer = shallow_http.get(f"/v1/capabilities?{query}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
