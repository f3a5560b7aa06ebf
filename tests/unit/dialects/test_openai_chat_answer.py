"""`/v1/chat/completions`, answers: whole, as a stream of ours, and passed on from a server of the same format."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from narthex.core.errors import LimitExceeded, NarthexError
from narthex.core.ports import Call
from narthex.core.stream import (
    ChoiceFinished,
    ChoiceStarted,
    EmbeddingsReady,
    Event,
    Frame,
    OutOfOrder,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    Usage,
    UsageReported,
)
from narthex.dialects.openai_chat import ChatDialect
from narthex.dialects.openai_chat_answer import FORMAT
from narthex.wire.sse import SseDecoder

MakeCall = Callable[..., Call]
DIALECT = ChatDialect()

USAGE = Usage(prompt_tokens=3, completion_tokens=9, cached_tokens=1, reasoning_tokens=2, accepted_prediction_tokens=4)
A = TokenLogprob(token="A", logprob=-0.5, bytes_=b"A", top=(TokenLogprob(token="B", logprob=-1.5),))
TEXT: list[Event] = [ChoiceStarted(0), TextDelta(0, "A"), TextDelta(0, 'é"\n😀'), ChoiceFinished(0, "stop")]
TWO: list[Event] = [
    ChoiceStarted(1), TextDelta(1, "x"), ChoiceStarted(0), TextDelta(0, "y", (A,)), ChoiceFinished(1, "length"),
    TextDelta(0, "z", (A, A)), ChoiceFinished(0, "content_filter"),
]  # fmt: skip
THOUGHT: list[Event] = [
    ChoiceStarted(0), ReasoningDelta(0, "h"), ReasoningDelta(0, "m"), TextDelta(0, "4"), ChoiceFinished(0, "stop"),
]  # fmt: skip
REFUSED: list[Event] = [ChoiceStarted(0), RefusalDelta(0, "I "), RefusalDelta(0, "won't"), ChoiceFinished(0, "stop")]
CALLS: list[Event] = [
    ChoiceStarted(0),
    ToolCallDelta(choice=0, call=0, id="c0", name="f"),
    ToolCallDelta(choice=0, call=1, id="c1", name="g", arguments='{"a"'),
    ToolCallDelta(choice=0, call=0, arguments="{}"),
    ToolCallDelta(choice=0, call=1, arguments=":1}"),
    ChoiceFinished(0, "tool_calls"),
]
LATE_NAME: list[Event] = [
    ChoiceStarted(0), ToolCallDelta(choice=0, call=0, id="c0"), ToolCallDelta(choice=0, call=0, name="f"),
    ChoiceFinished(0, "tool_calls"),
]  # fmt: skip
EMPTY: list[Event] = [ChoiceStarted(0), ChoiceFinished(0, "length")]
ANSWERS = {
    "text": TEXT, "two": TWO, "thought": THOUGHT, "refused": REFUSED, "calls": CALLS, "late name": LATE_NAME,
    "empty": EMPTY,
}  # fmt: skip
STREAMED = {"stream": True, "stream_options": {"include_usage": True}}


def whole(call: Call, *events: Event) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(DIALECT.encode_answer(call, [Frame.of(event) for event in events], created=7))
    return answer


def read(data: bytes) -> tuple[list[dict[str, Any]], bool]:
    """The chunks, and whether the end mark came last."""
    events = [event.data for event in SseDecoder().feed(data)]
    ended = bool(events) and events[-1] == b"[DONE]"
    return [json.loads(event) for event in (events[:-1] if ended else events)], ended


def stream(call: Call, *events: Event) -> list[dict[str, Any]]:
    encoder = DIALECT.encoder(call, created=7)
    chunks, ended = read(b"".join(encoder.encode(Frame.of(event)) for event in events) + encoder.end())
    assert ended
    return chunks


def folded(chunks: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """What a client makes of a stream; checks what is promised of every stream on the way."""
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            delta = choice["delta"]
            if choice["index"] not in choices:
                assert delta.pop("role") == "assistant"
                choices[choice["index"]] = {"finish_reason": None, "tool_calls": {}, "logprobs": None}
            folded = choices[choice["index"]]
            assert folded["finish_reason"] is None, "nothing comes after the end of a choice"
            assert "role" not in delta, "the role comes once"
            for name, value in delta.items():
                if name == "tool_calls":
                    for call in value:
                        merge(folded["tool_calls"].setdefault(call.pop("index"), {}), call)
                elif value is not None:
                    folded[name] = merge(folded[name], value) if isinstance(value, dict) and name in folded else (
                        value if isinstance(value, dict) else folded.get(name, "") + value
                    )  # fmt: skip
            if choice["logprobs"] is not None:
                known = folded["logprobs"] or {"content": [], "refusal": None}
                folded["logprobs"] = known | {"content": known["content"] + choice["logprobs"]["content"]}
            if choice["finish_reason"] is not None:
                assert delta == {}
                folded["finish_reason"] = choice["finish_reason"]
    return choices


def merge(into: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    for name, value in more.items():
        if isinstance(value, dict):
            merge(into.setdefault(name, {}), value)
        elif name == "type" or into.get(name) is None:
            into[name] = value
        elif value is not None:
            into[name] += value
    return into


def as_message(folded: dict[str, Any]) -> dict[str, Any]:
    names = ("content", "refusal", "reasoning_content", "function_call")
    message = {name: folded[name] for name in names if folded.get(name)}
    if calls := folded["tool_calls"]:
        message["tool_calls"] = [calls[number] for number in sorted(calls)]
    return message


# --- whole ---------------------------------------------------------------------------------------------------------


def test_a_whole_answer(make_call: MakeCall) -> None:
    assert whole(make_call("chat"), *TEXT, UsageReported(USAGE)) == {
        "id": "chatcmpl-abc",
        "object": "chat.completion",
        "created": 7,
        "model": "m",
        "system_fingerprint": "fp_0123456789",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": 'Aé"\n😀', "refusal": None, "annotations": []},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 3,
            "completion_tokens": 9,
            "total_tokens": 12,
            "prompt_tokens_details": {"cached_tokens": 1, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 2,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 4,
                "rejected_prediction_tokens": 0,
            },
        },
    }


def test_choices_stand_in_order_with_their_logprobs(make_call: MakeCall) -> None:
    first, second = whole(make_call("chat"), *TWO)["choices"]
    assert (first["index"], first["message"]["content"], first["finish_reason"]) == (0, "yz", "content_filter")
    entry = {
        "token": "A", "logprob": -0.5, "bytes": [65],
        "top_logprobs": [{"token": "B", "logprob": -1.5, "bytes": None}],
    }  # fmt: skip
    assert first["logprobs"] == {"content": [entry] * 3, "refusal": None}
    assert (second["index"], second["logprobs"], second["finish_reason"]) == (1, None, "length")


@pytest.mark.parametrize(
    ("events", "message"),
    [
        (EMPTY, {"content": ""}),
        (REFUSED, {"content": None, "refusal": "I won't"}),
        (THOUGHT, {"content": "4", "reasoning_content": "hm"}),
        (LATE_NAME, {"content": None, "tool_calls": [
            {"id": "c0", "type": "function", "function": {"name": "f", "arguments": ""}}]}),
        (CALLS, {"content": None, "tool_calls": [
            {"id": "c0", "type": "function", "function": {"name": "f", "arguments": "{}"}},
            {"id": "c1", "type": "function", "function": {"name": "g", "arguments": '{"a":1}'}}]}),
        ([CALLS[0], TextDelta(0, ""), *CALLS[1:]], {"content": None}),
        ([CALLS[0], TextDelta(0, "Wait"), *CALLS[1:]], {"content": "Wait"}),
        ([*CALLS[:-1], ChoiceFinished(0, "function_call")], {"function_call": {"name": "f", "arguments": "{}"}}),
    ],
)  # fmt: skip
def test_messages(events: list[Event], message: dict[str, Any], make_call: MakeCall) -> None:
    (choice,) = whole(make_call("chat"), *events)["choices"]
    assert choice["message"] == {"role": "assistant", "refusal": None, "annotations": []} | choice["message"] | message
    assert ("tool_calls" in choice["message"]) is (choice["finish_reason"] == "tool_calls")


@pytest.mark.parametrize("events", [[], [TEXT[0]], TEXT[1:], TEXT[:-1], [UsageReported(USAGE)]])
def test_no_complete_answer_is_written(events: list[Event], make_call: MakeCall) -> None:
    with pytest.raises(OutOfOrder):
        whole(make_call("chat"), *events)


# --- streams -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        *[(name, fields) for name in ANSWERS for fields in ({}, {"service_tier": "flex"}, STREAMED)],
        ("late name", {"functions": [{"name": "f"}]}),
    ],
)
def test_a_stream_folds_to_the_whole_answer(name: str, fields: dict[str, Any], make_call: MakeCall) -> None:
    call, events = make_call("chat", fields), ANSWERS[name]
    answer, chunks = whole(call, *events, UsageReported(USAGE)), stream(call, *events, UsageReported(USAGE))
    rest = answer.keys() - {"choices", "usage", "object"}
    for chunk in chunks:
        assert chunk.keys() - {"choices", "usage", "object"} == rest
        assert {key: chunk[key] for key in rest} == {key: answer[key] for key in rest}
        assert chunk["object"] == "chat.completion.chunk"
    if "stream_options" in fields:
        last = chunks.pop()
        assert (last["choices"], last["usage"]) == ([], answer["usage"])
        assert all(chunk["usage"] is None for chunk in chunks)
    assert all(len(chunk["choices"]) == 1 for chunk in chunks)
    found = folded(chunks)
    assert found.keys() == {choice["index"] for choice in answer["choices"]}
    for choice in answer["choices"]:
        own = found[choice["index"]]
        message = {key: value for key, value in choice["message"].items() if value and key != "role"}
        assert as_message(own) == message
        assert (own["finish_reason"], own["logprobs"]) == (choice["finish_reason"], choice["logprobs"])


def test_the_first_chunk_bears_the_role_and_the_last_nothing(make_call: MakeCall) -> None:
    chunks = stream(make_call("chat"), *TEXT)
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert chunks[-1]["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}]
    assert not any("usage" in chunk for chunk in chunks)


def test_the_role_of_pure_calls_has_no_content(make_call: MakeCall) -> None:
    deltas = [chunk["choices"][0]["delta"] for chunk in stream(make_call("chat"), *CALLS)]
    assert deltas[0] == {"role": "assistant", "content": None, "refusal": None}
    assert all("role" not in delta for delta in deltas[1:])


def test_choices_announce_themselves_each_for_itself(make_call: MakeCall) -> None:
    events = [ChoiceStarted(0), ChoiceStarted(1), TextDelta(1, "b"), TextDelta(1, "c"), ChoiceFinished(0, "stop")]
    chunks = stream(make_call("chat"), *events, ChoiceFinished(1, "stop"))
    told = [(choice["index"], choice["delta"].get("role")) for chunk in chunks for choice in chunk["choices"]]
    assert told == [(1, "assistant"), (1, None), (1, None), (0, "assistant"), (0, None), (1, None)]


def test_a_tool_call_begins_with_its_id_and_grows(make_call: MakeCall) -> None:
    deltas = [chunk["choices"][0]["delta"] for chunk in stream(make_call("chat"), *CALLS)][1:-1]
    assert [delta["tool_calls"] for delta in deltas] == [
        [{"index": 0, "id": "c0", "type": "function", "function": {"name": "f", "arguments": ""}}],
        [{"index": 1, "id": "c1", "type": "function", "function": {"name": "g", "arguments": '{"a"'}}],
        [{"index": 0, "function": {"arguments": "{}"}}],
        [{"index": 1, "function": {"arguments": ":1}"}}],
    ]


def test_with_functions_a_call_is_told_in_the_older_form(make_call: MakeCall) -> None:
    call = make_call("chat", {"functions": [{"name": "f"}]})
    events = [CALLS[0], CALLS[1], CALLS[3], CALLS[-1]]
    deltas = [chunk["choices"][0]["delta"] for chunk in stream(call, *events)]
    assert deltas[1:] == [
        {"function_call": {"name": "f", "arguments": ""}}, {"function_call": {"arguments": "{}"}}, {},
    ]  # fmt: skip
    (choice,) = whole(call, *events)["choices"]
    assert choice["message"]["function_call"] == {"name": "f", "arguments": "{}"}
    assert choice["finish_reason"] == "function_call"


def test_usage_that_nobody_told_is_nought(make_call: MakeCall) -> None:
    assert stream(make_call("chat", STREAMED), *TEXT)[-1]["usage"]["total_tokens"] == 0
    assert whole(make_call("chat"), *TEXT)["usage"]["total_tokens"] == 0


def test_what_has_no_form_in_a_chat_is_left_out(make_call: MakeCall) -> None:
    assert DIALECT.encoder(make_call("chat"), created=7).encode(Frame.of(EmbeddingsReady(()))) == b""


@pytest.mark.parametrize("events", [[], TEXT[:-1], TWO[:-1]])
def test_an_unfinished_stream_has_no_end_mark(events: list[Event], make_call: MakeCall) -> None:
    encoder = DIALECT.encoder(make_call("chat"), created=7)
    for event in events:
        encoder.encode(Frame.of(event))
    with pytest.raises(OutOfOrder):
        encoder.end()


def test_an_error_is_an_event_without_an_end_mark(make_call: MakeCall) -> None:
    encoder = DIALECT.encoder(make_call("chat"), created=7)
    data = encoder.encode(Frame.of(*TEXT[:2])) + encoder.error(LimitExceeded("Slow\ndown.", param="n"))
    chunks, ended = read(data)
    assert not ended
    assert chunks[-1] == {
        "error": {"message": "Slow\ndown.", "type": "requests", "param": "n", "code": "rate_limit_exceeded"}
    }
    assert b"our secret" not in encoder.error(NarthexError("our secret"))


# --- passed on -----------------------------------------------------------------------------------------------------


def foreign(*choices: dict[str, Any], **fields: Any) -> Frame:
    head = {"id": "theirs", "object": "chunk", "created": 1, "model": "their-model", "choices": choices}
    return Frame(FORMAT, json.dumps(head | fields).encode())


def delta(index: int = 0, *, finish: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"index": index, "delta": fields, "finish_reason": finish, "logprobs": None}


PASSED = [foreign(delta(role="assistant", content="")), foreign(delta(content="é")), foreign(delta(finish="stop"))]


def relay(call: Call, *frames: Frame) -> list[dict[str, Any]]:
    encoder = DIALECT.encoder(call, created=7)
    chunks, ended = read(b"".join(map(encoder.encode, frames)) + encoder.end())
    assert ended
    return chunks


@pytest.mark.parametrize("fields", [{"stream": True}, STREAMED])
def test_a_frame_of_this_format_is_passed_on_under_our_name(fields: dict[str, Any], make_call: MakeCall) -> None:
    call = make_call("chat", fields)
    frames = [*PASSED, foreign(usage={"prompt_tokens": 99}), Frame.of(UsageReported(USAGE))]
    chunks = relay(call, *frames)
    for chunk in chunks:
        assert (chunk["id"], chunk["object"], chunk["created"], chunk["model"]) == (
            "chatcmpl-abc", "chat.completion.chunk", 7, "m",
        )  # fmt: skip
    if "stream_options" in fields:
        assert (chunks[-1]["choices"], chunks.pop()["usage"]["total_tokens"]) == ([], 12)
        assert [chunk["usage"] for chunk in chunks] == [None] * 3
    else:
        assert not any("usage" in chunk for chunk in chunks)
    assert [chunk["choices"] for chunk in chunks] == [json.loads(frame.data)["choices"] for frame in PASSED]


def test_usage_in_every_chunk_and_padding_are_dropped(make_call: MakeCall) -> None:
    frames = [foreign(delta(content="a"), usage={"prompt_tokens": 1}, obfuscation="xxxx"), *PASSED]
    assert not any({"usage", "obfuscation"} & chunk.keys() for chunk in relay(make_call("chat"), *frames))


def test_fields_that_we_do_not_know_are_passed_on_as_they_are(make_call: MakeCall) -> None:
    frame = foreign(delta(content="a", annotations=[1]), provider={"x": 1.0})
    (chunk,) = relay(make_call("chat"), frame)
    assert chunk["provider"] == {"x": 1.0}
    assert chunk["choices"][0]["delta"] == {"role": "assistant", "content": "a", "annotations": [1]}


def test_a_frame_of_several_lines_stays_one_event(make_call: MakeCall) -> None:
    data = json.dumps(json.loads(PASSED[1].data), indent=1).encode()
    (chunk,) = relay(make_call("chat"), Frame(FORMAT, data))
    assert chunk["choices"][0]["delta"] == {"role": "assistant", "content": "é"}


@pytest.mark.parametrize("choices", [b"[]", b"[ ]", b"[\n]"])
def test_a_frame_without_choices_is_not_passed_on(choices: bytes, make_call: MakeCall) -> None:
    frame = Frame(FORMAT, b'{"id":"x","choices":%b}' % choices)
    assert DIALECT.encoder(make_call("chat"), created=7).encode(frame) == b""
    assert DIALECT.encoder(make_call("chat"), created=7).encode(Frame(FORMAT, b"{}")) == b""


def test_the_role_is_passed_on_once_for_each_choice(make_call: MakeCall) -> None:
    frames = [
        foreign(delta(0, role="assistant", content="a")),
        foreign(delta(0, role="assistant", content='"role"'), delta(1, role="assistant", content="b")),
        foreign({"index": 0, "delta": None, "x": {"role": 1}}, delta(1, role="assistant", finish="stop")),
    ]
    sent = [[choice["delta"] for choice in chunk["choices"]] for chunk in relay(make_call("chat"), *frames)]
    assert sent == [
        [{"role": "assistant", "content": "a"}],
        [{"content": '"role"'}, {"role": "assistant", "content": "b"}],
        [None, {}],
    ]


def test_thoughts_are_passed_on_by_one_name(make_call: MakeCall) -> None:
    frames = [
        foreign(delta(reasoning="Let me")),
        foreign(delta(role="assistant", reasoning=" see")),
        foreign(delta(role="assistant", reasoning="twice", reasoning_content="twice")),
        foreign(delta(reasoning=None, content='"reasoning"')),
    ]
    sent = [chunk["choices"][0]["delta"] for chunk in relay(make_call("chat"), *frames)]
    assert sent == [
        {"role": "assistant", "reasoning_content": "Let me"},
        {"reasoning_content": " see"},
        {"reasoning_content": "twice"},
        {"content": '"reasoning"'},
    ]


@pytest.mark.parametrize(
    ("asked", "told", "profile", "answered"),
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
    asked: str | None, told: str | None, profile: str, answered: str | None, make_call: MakeCall
) -> None:
    call = make_call("chat", STREAMED | {"service_tier": asked}, profile=profile)
    chunks = relay(call, *(foreign(delta(content="a"), service_tier=told, system_fingerprint="fp_x") for _ in range(2)))
    assert [chunk.get("service_tier") for chunk in chunks] == [answered] * 3
    assert [chunk["system_fingerprint"] for chunk in chunks] == ["fp_x"] * 3
    assert whole(call, *TEXT).get("service_tier") == (None if asked is None else "default")


def test_events_may_follow_what_was_passed_on(make_call: MakeCall) -> None:
    """As they do where another server goes on with the answer of one that broke off."""
    first = foreign(delta(role="assistant", content="a"), system_fingerprint="fp_1")
    rest = (Frame.of(TextDelta(0, "b")), Frame.of(ChoiceFinished(0, "stop"), UsageReported(USAGE)))
    chunks = relay(make_call("chat", STREAMED), first, *rest)
    assert chunks.pop()["usage"]["total_tokens"] == 12
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "content": "a"},
        {"content": "b"},
        {},
    ]
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert len({(chunk["id"], chunk["created"], chunk["model"], chunk["system_fingerprint"]) for chunk in chunks}) == 1


@pytest.mark.parametrize(
    ("asked", "profile", "answered"),
    [("fast", "openai", "priority"), ("flex", "openai", "flex"), ("auto", "thyris", "default"), (None, "openai", None)],
)
def test_of_a_model_of_this_server_the_tier_that_was_used_is_told(
    asked: str | None, profile: str, answered: str | None, make_call: MakeCall
) -> None:
    call = make_call("chat", STREAMED | {"service_tier": asked}, profile=profile)
    call.deployment = "local/m"
    assert whole(call, *TEXT).get("service_tier") == answered
