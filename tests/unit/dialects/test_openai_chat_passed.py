"""`/v1/chat/completions`: whole answers that are passed on tell what any other answer of ours tells."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from narthex.core.ports import Call
from narthex.core.stream import Frame
from narthex.dialects.openai_chat import ChatDialect
from narthex.dialects.openai_chat_answer import encode_answer
from narthex.dialects.openai_chat_passed import FORMAT, is_passed_on
from narthex.providers.openai_whole import WholeChat, read_whole

MakeCall = Callable[..., Call]
DIALECT = ChatDialect()
TESTS = Path(__file__).parents[2]
CASES = sorted(case for case in (TESTS / "corpus" / "openai_whole").glob("*.json") if not case.stem.endswith(".events"))
SPECIFICATION = TESTS.parents[1] / "shared" / "specs" / "openai.openapi.json"
ASKED: list[dict[str, Any]] = [
    {},
    {"service_tier": "flex"},
    {"logprobs": True, "top_logprobs": 2},
    {"logprobs": False},
]

NAMED = ("id", "object", "created", "model", "usage")
NAMED_OF_MESSAGE = ("role", "content", "refusal", "reasoning_content", "reasoning", "function_call")
USED = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def told(call: Call, body: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same answer passed on, and folded and written anew."""
    decoder = WholeChat(choices=len(json.loads(body)["choices"]))
    list(decoder.feed(body))
    frames = list(decoder.end())
    assert is_passed_on(call, frames)
    return (
        json.loads(DIALECT.encode_answer(call, frames, created=7)),
        json.loads(encode_answer(call, frames, created=7)),
    )


def document(*choices: Any, **fields: Any) -> bytes:
    head = {"id": "theirs", "object": "theirs", "created": 1, "model": "their-model", "choices": choices}
    return json.dumps(head | fields).encode()


def answer(message: Any, **fields: Any) -> bytes:
    return document({"index": 0, "message": message, "finish_reason": "stop"} | fields)


def check(call: Call, body: bytes) -> None:
    """That what the contract names is alike, and what it doesn't name is as the server told it."""
    passed, anew = told(call, body)
    theirs = json.loads(body)
    assert {name: passed[name] for name in NAMED} == {name: anew[name] for name in NAMED}
    assert ("service_tier" in passed) == ("service_tier" in anew)
    assert not {"x_groq", "obfuscation"} & passed.keys()
    assert_kept(theirs, passed, but={*NAMED, "choices", "service_tier", "x_groq"})
    by_index = {choice.get("index", 0): choice for choice in theirs["choices"]}
    for choice, own in zip(passed["choices"], anew["choices"], strict=True):
        their = by_index[choice["index"]]
        assert_kept(their, choice, but={"index", "message", "logprobs", "finish_reason"})
        check_message(choice["message"], own["message"], their.get("message") or {})
        names = ("index", "logprobs", "finish_reason")
        assert {name: choice[name] for name in names} == {name: own[name] for name in names}


def check_message(message: dict[str, Any], own: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert {name: message.get(name) for name in NAMED_OF_MESSAGE} == {name: own.get(name) for name in NAMED_OF_MESSAGE}
    assert message.keys() >= own.keys()
    assert message["annotations"] == (theirs.get("annotations") or [])
    assert ("tool_calls" in message) == ("tool_calls" in own)
    for call, ours in zip(message.get("tool_calls", ()), own.get("tool_calls", ()), strict=True):
        if call["type"] == "function":
            names = ("id", "type")
            assert {name: call[name] for name in names} == {name: ours[name] for name in names}
            assert ours["function"].items() <= call["function"].items()
    # Callers send messages back as they got them, and nobody could take a member of another's invention.
    assert message.keys() <= {*NAMED_OF_MESSAGE, "annotations", "audio", "tool_calls"}
    assert_kept({name: each for name, each in theirs.items() if name == "audio"}, message, but=set())


def assert_kept(theirs: dict[str, Any], passed: dict[str, Any], *, but: set[str]) -> None:
    assert {name: passed.get(name, "is missing") for name in theirs.keys() - but} == {
        name: theirs[name] for name in theirs.keys() - but
    }


# --- the corpus ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", ASKED, ids=json.dumps)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_the_corpus_is_told_alike_either_way(case: Path, asked: dict[str, Any], make_call: MakeCall) -> None:
    check(make_call("chat", asked), case.read_bytes())


@pytest.fixture(scope="module")
def specified() -> Callable[[Any], list[str]]:
    """What OpenAI's specification finds wrong with an answer."""
    if not SPECIFICATION.is_file():
        pytest.skip("the specification is not at hand")
    registry = jsonschema_rs.Registry(
        [("urn:openai", json.loads(SPECIFICATION.read_text()))], draft=jsonschema_rs.Draft202012
    )
    reference = {"$ref": "urn:openai#/components/schemas/CreateChatCompletionResponse"}
    validator = jsonschema_rs.Draft202012Validator(reference, registry=registry)
    return lambda value: [f"{fault.instance_path}: {fault.message[:200]}" for fault in validator.iter_errors(value)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_the_corpus_is_told_as_specified(
    case: Path, make_call: MakeCall, specified: Callable[[Any], list[str]]
) -> None:
    passed, _ = told(make_call("chat"), case.read_bytes())
    passed.pop("system_fingerprint", None)  # null where nobody knows it, which clients take
    assert specified(passed) == []


# --- one by one ------------------------------------------------------------------------------------------------------


def test_an_empty_text_is_told_as_any_other(make_call: MakeCall) -> None:
    check(make_call("chat"), answer({"role": "assistant", "content": ""}))


def test_text_is_passed_on_as_it_is(make_call: MakeCall) -> None:
    body = (TESTS / "corpus" / "openai_whole" / "vllm.json").read_bytes()
    passed, _ = told(make_call("chat"), body)
    assert passed == {
        "id": "chatcmpl-abc",
        "object": "chat.completion",
        "created": 7,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": 'Hello "usage" and \\',
                    "refusal": None,
                    "annotations": [],
                    "audio": None,
                },
                "logprobs": None,
                "finish_reason": "stop",
                "stop_reason": None,
                "token_ids": None,
            }
        ],
        "system_fingerprint": None,
        "usage": {
            "prompt_tokens": 19,
            "completion_tokens": 10,
            "total_tokens": 29,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
        "prompt_logprobs": None,
        "prompt_token_ids": None,
        "kv_transfer_params": None,
    }


@pytest.mark.parametrize("beside", [{"annotations": [{"type": "url_citation"}]}, {"refusal": "No."}, {"refusal": ""}])
def test_what_stands_beside_a_text_stays(beside: dict[str, Any], make_call: MakeCall) -> None:
    body = answer({"role": "assistant", "content": "Hi", **beside})
    check(make_call("chat", {}), body)
    message = told(make_call("chat", {}), body)[0]["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "Hi", "refusal": None, "annotations": []} | {
        name: value for name, value in beside.items() if value
    }


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_thoughts_have_one_name(name: str, make_call: MakeCall) -> None:
    passed, _ = told(make_call("chat"), answer({"content": "4", name: "hm"}))
    message = passed["choices"][0]["message"]
    assert (message["reasoning_content"], "reasoning" in message) == ("hm", False)


@pytest.mark.parametrize("calls", [[], None])
def test_an_empty_list_of_calls_is_none(calls: Any, make_call: MakeCall) -> None:
    for written in (b"[]", b"[ ]", b"[\n]", b"null"):
        body = answer({"content": "4", "tool_calls": calls}).replace(json.dumps(calls).encode(), written)
        passed, _ = told(make_call("chat"), body)
        assert "tool_calls" not in passed["choices"][0]["message"]


def test_calls_of_a_kind_that_we_do_not_know_stay(make_call: MakeCall) -> None:
    calls = [{"id": "c", "type": "custom", "custom": {"name": "sql", "input": "SELECT 1"}, "x": 1}]
    body = answer({"content": None, "tool_calls": calls}, finish_reason="tool_calls")
    assert told(make_call("chat"), body)[0]["choices"][0]["message"]["tool_calls"] == calls


def test_calls_that_lack_something_are_told_anew(make_call: MakeCall) -> None:
    body = answer({"content": "", "tool_calls": [{"function": {"name": "f"}}]}, finish_reason="tool_calls")
    message = told(make_call("chat"), body)[0]["choices"][0]["message"]
    assert message["tool_calls"] == [{"id": "", "type": "function", "function": {"name": "f", "arguments": ""}}]
    assert message["content"] is None


def test_with_functions_nothing_is_passed_on(make_call: MakeCall) -> None:
    call = make_call("chat", {"functions": [{"name": "f"}]})
    frame = Frame(FORMAT, answer({"content": "4"}))
    assert not is_passed_on(call, [frame])
    assert is_passed_on(make_call("chat"), [frame])
    assert not is_passed_on(make_call("chat"), [frame, frame])
    decoder = WholeChat()
    calls = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    list(decoder.feed(answer({"content": None, "tool_calls": calls}, finish_reason="tool_calls")))
    (choice,) = json.loads(DIALECT.encode_answer(call, list(decoder.end()), created=7))["choices"]
    assert (choice["message"]["function_call"]["name"], choice["finish_reason"]) == ("f", "function_call")


@pytest.mark.parametrize(
    ("asked", "tier", "profile", "answered"),
    [
        (None, "priority", "openai", None),
        (None, None, "openai", None),
        ("auto", None, "openai", "default"),
        ("auto", "priority", "openai", "priority"),
        ("auto", "priority", "thyris", "default"),
        ("auto", "scale", "thyris", "scale"),
        ("default", None, "thyris", "default"),
    ],
)
def test_the_tier_is_told_where_it_was_asked_for(
    asked: str | None, tier: str | None, profile: str, answered: str | None, make_call: MakeCall
) -> None:
    call = make_call("chat", {"service_tier": asked}, profile=profile)
    passed, _ = told(call, document({"message": {"content": "a"}, "finish_reason": "stop"}, service_tier=tier))
    assert passed.get("service_tier") == answered


# --- any answer ------------------------------------------------------------------------------------------------------

_TEXTS = st.none() | st.sampled_from(["", "null", "[]", '"', 'a"usage"', "äöü😀\n\\"]) | st.text(max_size=5)
_UNKNOWN = st.none() | st.integers(-9, 9) | st.text(max_size=3) | st.lists(st.integers(0, 9), max_size=2)


def _some(**values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=values)


_CALL = _some(
    id=st.none() | st.sampled_from(["", "c1", "c2"]),
    type=st.just("function"),
    index=st.integers(0, 2),
    function=_some(name=st.sampled_from(["", "f"]), arguments=st.none() | st.just("{}"), x=_UNKNOWN),
    extra_content=_UNKNOWN,
)
_PART = _some(type=st.just("text"), text=_TEXTS, thinking=_TEXTS)
_MESSAGE = st.none() | _some(
    role=st.sampled_from(["assistant", None, "model"]),
    content=_TEXTS | st.lists(_PART, max_size=2),
    refusal=_TEXTS,
    annotations=st.none() | st.just([]) | st.just([{"type": "url_citation"}]),
    reasoning=_TEXTS,
    reasoning_content=_TEXTS,
    tool_calls=st.none() | st.lists(_CALL, max_size=2),
    function_call=st.none() | _some(name=st.just("f"), arguments=st.just("{}")),
    audio=_UNKNOWN,
    provider=_UNKNOWN,
)
_ENTRY = st.fixed_dictionaries(
    {"token": st.text(max_size=2), "logprob": st.floats(-9, 0)},
    optional={"bytes": st.none() | st.lists(st.integers(0, 255), max_size=2), "top_logprobs": st.just([])},
)
_LOGPROBS = st.none() | _some(content=st.none() | st.lists(_ENTRY, max_size=2), refusal=st.none())
_REASONS = st.sampled_from(["stop", "length", "tool_calls", "content_filter", "function_call", "eos", "tool_use"])
_CHOICE = st.fixed_dictionaries(
    {"finish_reason": _REASONS},
    optional={"message": _MESSAGE, "logprobs": _LOGPROBS, "stop_reason": _UNKNOWN, "content_filter": _UNKNOWN},
)
_TOP = _some(
    usage=st.none() | st.just(USED),
    service_tier=st.none() | st.sampled_from(["default", "priority", ""]),
    system_fingerprint=st.none() | st.just("fp"),
    prompt_logprobs=_UNKNOWN,
    provider=_UNKNOWN,
    x_groq=_UNKNOWN,
    error=st.none(),
)


@given(
    st.lists(_CHOICE, min_size=1, max_size=3), _TOP, st.randoms(use_true_random=False), st.sampled_from(ASKED),
    st.booleans(), st.sampled_from([None, 1]),
)  # fmt: skip
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_answer_is_told_alike_either_way(
    make_call: MakeCall,
    choices: list[dict[str, Any]],
    top: dict[str, Any],
    random: Any,
    asked: dict[str, Any],
    ascii_: bool,
    indent: int | None,
) -> None:
    if len(choices) > 1:
        choices = [{"index": index, **choice} for index, choice in enumerate(choices)]
        random.shuffle(choices)
    document = {"id": "theirs", "object": "chat.completion", "created": 1, "model": "x", **top, "choices": choices}
    check(make_call("chat", asked), json.dumps(document, ensure_ascii=ascii_, indent=indent).encode())


# --- one text and nothing else ---------------------------------------------------------------------------------------

_MORE: list[dict[str, Any]] = [
    {},
    {"system_fingerprint": "fp"},
    {"system_fingerprint": None},
    {"service_tier": "priority", "usage": None},
    {"usage": USED | {"prompt_tokens_details": {"cached_tokens": 1}, "completion_tokens_details": {"audio_tokens": 2}}},
]


@pytest.mark.parametrize("more", _MORE)
@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("text", ["Hi", 'ä "\\ \u0000😀'])
def test_one_text_is_told_as_any_other_answer(
    make_call: MakeCall, more: dict[str, Any], asked: dict[str, Any], text: str
) -> None:
    call = make_call("chat", asked)
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "length"}
    frame = read_whole(document(choice, **more), choices=1)
    assert frame.alone is not None
    at_once = DIALECT.encode_answer(call, (frame,), created=7)
    frame.alone = None
    assert json.loads(at_once) == json.loads(DIALECT.encode_answer(call, (frame,), created=7))
