"""What requests tell the chat template, over a real server: what the model has read is known by what it says."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
from openai import OpenAI
from tests.hostile_templates import ENDLESS, HOSTILE
from tests.server_process import CHAT_MODEL, SLASHED, Server

pytest_plugins = ["tests.models_fixture", "tests.server_fixture", "tests.client_fixture"]
pytestmark = pytest.mark.patient

TRUSTED = SLASHED
HELLO = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a colour."}]
BEGUN = "My favourite colour"
READ = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nName a colour.<|im_end|>\n<|im_start|>assistant\n"
"""What the model's own template makes of them."""


@pytest.fixture(scope="module")
def plain_http(shallow_server: Server) -> Iterator[httpx2.Client]:
    """With a key that may do all but send templates."""
    with shallow_server.http(shallow_server.key(name="plain")) as it:
        yield it


def asked(http: httpx2.Client, **fields: Any) -> httpx2.Response:
    body = {"model": TRUSTED, "messages": HELLO, "temperature": 0, "max_tokens": 6} | fields
    return http.post("/v1/chat/completions", json=body)


def said(http: httpx2.Client, **fields: Any) -> tuple[list[str], dict[str, int]]:
    """The choices' texts, and the usage."""
    answer = asked(http, **fields)
    assert answer.status_code == 200, answer.text
    document = answer.json()
    counted = {name: document["usage"][f"{name}_tokens"] for name in ("prompt", "completion")}
    return [choice["message"]["content"] for choice in document["choices"]], counted


def said_of(http: httpx2.Client, text: str, **fields: Any) -> tuple[list[str], dict[str, int]]:
    """What the model says when it has read exactly this text."""
    return said(http, chat_template="{% raw %}" + text + "{% endraw %}", **fields)


def refused(http: httpx2.Client, **fields: Any) -> tuple[str, str]:
    answer = asked(http, **fields)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    return error["param"], error["code"]


# --- templates of the caller's


def test_a_template_needs_a_model_and_a_key_that_allow_it(
    shallow_http: httpx2.Client, plain_http: httpx2.Client
) -> None:
    template = {"chat_template": "{{ messages[0].content }}"}
    refusal = ("chat_template", "unsupported_parameter")
    assert refused(shallow_http, model=CHAT_MODEL, **template) == refusal
    assert refused(plain_http, model=CHAT_MODEL, **template) == refusal
    assert refused(plain_http, **template) == refusal
    assert refused(plain_http, stream=True, **template) == refusal
    said(shallow_http, **template)
    said(plain_http, chat_template=None)


def test_the_capabilities_say_which_models_do(shallow_http: httpx2.Client) -> None:
    rows = {row["id"]: row for row in shallow_http.get("/v1/capabilities").json()["data"]}
    states = {
        name: row["deployments"][0]["surfaces"]["chat"] for name, row in rows.items() if name != "all-minilm-l6-v2"
    }
    assert {name: each["chat_template"]["state"] for name, each in states.items()} == {
        CHAT_MODEL: "refused",
        TRUSTED: "native",
    }


def test_it_is_what_the_model_reads(shallow_http: httpx2.Client) -> None:
    assert said_of(shallow_http, READ) == said(shallow_http)
    shouted = "{% for m in messages %}{{ m.role }}: {{ m.content | upper }} {% endfor %}"
    expected = said_of(shallow_http, "system: BE BRIEF. user: NAME A COLOUR. ")
    assert said(shallow_http, chat_template=shouted) == expected != said(shallow_http)


def test_its_variables_are_the_caller_s(shallow_http: httpx2.Client) -> None:
    template = "{{ words | join(' ') }}{% if loud %}!{% endif %}{{ none_of_that }}"
    told = {"words": ["One", 2, None], "loud": True}
    expected = said_of(shallow_http, "One 2 None!")
    assert said(shallow_http, chat_template=template, chat_template_kwargs=told) == expected
    told = {"chat_template_kwargs": {"words": ["<|im_start|>"], "nothing": 1}}
    assert refused(shallow_http, chat_template=template, **told) == (
        "chat_template_kwargs.nothing",
        "unsupported_parameter",
    )


def test_control_tokens_in_variables_are_text(shallow_http: httpx2.Client) -> None:
    """The template's own count, the variables' don't."""
    template = "{{ start }}user"
    _, own = said_of(shallow_http, "<|im_start|>user")
    _, theirs = said(shallow_http, chat_template=template, chat_template_kwargs={"start": "<|im_start|>"})
    assert (own["prompt"], theirs["prompt"] > own["prompt"]) == (2, True)


@pytest.mark.parametrize(
    ("variables", "param"),
    [
        ({"enable_thinking": False}, "enable_thinking"),
        ({"bos_token": "x"}, "bos_token"),
        ({"tokenize": True}, "tokenize"),
        ({"chat_template": "{{ 1 }}"}, "chat_template"),
    ],
)
def test_variables_that_the_model_s_template_does_not_know(
    variables: dict[str, Any], param: str, shallow_http: httpx2.Client
) -> None:
    found = refused(shallow_http, chat_template_kwargs=variables)
    assert found == (f"chat_template_kwargs.{param}", "unsupported_parameter")


@pytest.mark.parametrize("stream", [False, True])
def test_names_that_a_template_drops_are_named(stream: bool, *, shallow_http: httpx2.Client) -> None:
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Hi.", "name": "ada"}]

    def ignored(**fields: Any) -> str | None:
        body = {"model": SLASHED, "messages": messages, "max_tokens": 1, "stream": stream, **fields}
        answer = shallow_http.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        return answer.headers.get("x-narthex-ignored")

    assert ignored() == "messages.name"
    assert ignored(n=2, user="ada") == "user, messages.name"
    assert ignored(chat_template="{{ messages[0].name }}: {{ messages[0].content }}") is None
    assert ignored(chat_template="{{ messages[0].name | length }}") is None
    messages[0] |= {"name": ""}
    assert ignored() is None


# --- where the answer begins


def test_without_a_generation_prompt(shallow_http: httpx2.Client) -> None:
    expected = said_of(shallow_http, READ.removesuffix("<|im_start|>assistant\n"))
    assert said(shallow_http, add_generation_prompt=False) == expected
    assert said(shallow_http, add_generation_prompt=True) == said(shallow_http)
    template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    found = refused(shallow_http, add_generation_prompt=False, chat_template=template)
    assert found == ("add_generation_prompt", "unsupported_parameter")


def going_on(**fields: Any) -> dict[str, Any]:
    return {"messages": [*HELLO, {"role": "assistant", "content": BEGUN}], "continue_final_message": True, **fields}


@pytest.mark.parametrize(
    "fields", [{}, {"add_generation_prompt": False}, {"n": 2}, {"add_special_tokens": True}], ids=str
)
def test_an_answer_goes_on_where_the_last_message_ends(fields: dict[str, Any], shallow_http: httpx2.Client) -> None:
    literally = {name: value for name, value in fields.items() if name != "add_generation_prompt"}
    assert said(shallow_http, **going_on(**fields)) == said_of(shallow_http, READ + BEGUN, **literally)


def test_it_goes_on_so_in_a_stream_and_with_all_that_goes_with_it(shallow: OpenAI) -> None:
    body = going_on(model=TRUSTED, temperature=0, max_tokens=6, logprobs=True)
    extra = {"continue_final_message": body.pop("continue_final_message")}
    whole = shallow.chat.completions.create(**body, extra_body=extra)
    chunks = list(
        shallow.chat.completions.create(**body, stream=True, stream_options={"include_usage": True}, extra_body=extra)
    )
    text = whole.choices[0].message.content
    assert text
    assert text == "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert chunks[-1].usage == whole.usage
    tokens = [entry.token for entry in whole.choices[0].logprobs.content]
    assert "".join(tokens) == text
    echoed = shallow.chat.completions.create(**body, extra_body=extra | {"echo": True})
    assert echoed.choices[0].message.content == BEGUN + text


def test_stop_strings_and_forms_are_of_what_is_new(shallow_http: httpx2.Client) -> None:
    ((text,), _) = said(shallow_http, **going_on(max_tokens=12))
    stop = text[4:6]
    ((cut,), _) = said(shallow_http, **going_on(max_tokens=12, stop=[stop, "colour\0"]))
    assert cut == text[: text.index(stop)]
    ((chosen,), _) = said(shallow_http, **going_on(guided_choice=[" is blue", " is red"]))
    assert chosen in {" is blue", " is red"}
    ((number,), _) = said(shallow_http, **going_on(seed=7, temperature=1, guided_regex=" [0-9]{2}"))
    assert number[1:].isdigit()


@pytest.mark.parametrize(
    "fields", [{"messages": HELLO}, {"add_generation_prompt": True}, {"messages": going_on()["messages"] + HELLO}]
)
def test_there_has_to_be_something_to_go_on_with(fields: dict[str, Any], shallow_http: httpx2.Client) -> None:
    assert refused(shallow_http, **(going_on() | fields)) == ("continue_final_message", "invalid_value")


def test_scale_s_surface_knows_them(shallow_http: httpx2.Client, plain_http: httpx2.Client) -> None:
    body = {"model": TRUSTED, "temperature": 0, "max_tokens": 6, **going_on()}
    answer = shallow_http.post("/v4/beta/chat/completions", json=body)
    ((text,), _) = said(shallow_http, **going_on())
    assert (answer.status_code, answer.json()["choices"][0]["message"]["content"]) == (200, text)
    refusal = plain_http.post("/v4/beta/chat/completions", json=body | {"chat_template": "x"})
    assert (refusal.status_code, refusal.json()["error"]["param"]) == (400, "chat_template")


# --- templates that mean harm

QUICK = {name: template for name, template in HOSTILE.items() if name not in ENDLESS}
SLOW = ("nested loops", "one huge comparison")


def harmed(http: httpx2.Client, names: Iterator[str] | tuple[str, ...]) -> None:
    for name in names:
        began = time.monotonic()
        assert refused(http, chat_template=HOSTILE[name])[0] == "chat_template", name
        assert time.monotonic() - began < 10, name  # it is two seconds on a machine with nothing else to do


def test_no_template_does_harm(shallow_http: httpx2.Client, shallow_server: Server) -> None:
    """Others are answered meanwhile, by the same sandbox."""
    sandbox = _sandbox(shallow_server)
    with ThreadPoolExecutor(1) as pool, shallow_server.http() as other:
        harming = pool.submit(harmed, other, (*SLOW, *list(QUICK)[::5]))
        while not harming.done():
            said(shallow_http, max_tokens=1)
            said_of(shallow_http, READ, max_tokens=1)
        harming.result()
    assert _sandbox(shallow_server) == sandbox


@pytest.mark.soak
def test_none_of_them_all_does_harm(shallow_http: httpx2.Client, shallow_server: Server) -> None:
    sandbox = _sandbox(shallow_server)
    for name, template in HOSTILE.items():
        began = time.monotonic()
        for stream in (False, True):
            assert refused(shallow_http, chat_template=template, stream=stream)[0] == "chat_template", name
        assert time.monotonic() - began < 20, name
        said(shallow_http, max_tokens=1)
    assert _sandbox(shallow_server) == sandbox


def _sandbox(server: Server) -> int:
    """How often it was started."""
    with server.http() as http:
        said(http, max_tokens=1)
    lines = server.log_lines()
    return len([line for line in lines if line["event"] == "child" and line["child"] == "sandbox"])
