"""`/v1/completions`: requests, whole answers and streams."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from narthex.core.completions import DEFAULT_PROMPT, CompletionRequest
from narthex.core.errors import InvalidRequest, NarthexError
from narthex.core.ports import Call, Decoded
from narthex.core.stream import (
    ChoiceFinished,
    ChoiceStarted,
    Frame,
    OutOfOrder,
    TextDelta,
    TokenLogprob,
    Usage,
    UsageReported,
)
from narthex.dialects.openai_completions import CompletionsDialect
from narthex.wire.sse import SseDecoder

Refuse = Callable[..., tuple[str | None, str | None]]
Decode = Callable[..., Decoded]
MakeCall = Callable[..., Call]
DIALECT = CompletionsDialect()


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("a", ("a",)),
        ("", ("",)),
        (["a", ""], ("a", "")),
        ([1, 2], ((1, 2),)),
        ([[1], [2, 3]], ((1,), (2, 3))),
        (None, (DEFAULT_PROMPT,)),
    ],
)
def test_all_forms_of_a_prompt(prompt: Any, prompts: Any, decode: Decode) -> None:
    request = decode("completions", {"prompt": prompt}).request
    assert isinstance(request, CompletionRequest)
    assert request.prompts == prompts
    assert (request.sampling.max_tokens, request.echo, request.stream, request.sampling.n) == (16, False, False, 1)


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"prompt": {}}, "invalid_type", "prompt"),
    ({"prompt": 1}, "invalid_type", "prompt"),
    ({"prompt": []}, "empty_array", "prompt"),
    ({"prompt": [[]]}, "empty_array", "prompt[0]"),
    ({"prompt": ["a", 1]}, "invalid_type", "prompt[1]"),
    ({"prompt": [1, "a"]}, "invalid_type", "prompt[1]"),
    ({"prompt": [True]}, "invalid_type", "prompt[0]"),
    ({"prompt": [None]}, "invalid_type", "prompt[0]"),
    ({"prompt": [[1], 2]}, "invalid_type", "prompt[1]"),
    ({"prompt": [-1]}, "integer_below_min_value", "prompt[0]"),
    ({"prompt": [2**31]}, "integer_above_max_value", "prompt[0]"),
    ({"prompt": ["a"] * 17, "n": 128}, "array_above_max_length", "prompt"),
    ({"max_tokens": -1}, "integer_below_min_value", "max_tokens"),
    ({"logprobs": 6}, "integer_above_max_value", "logprobs"),
    ({"logprobs": True}, "invalid_type", "logprobs"),
    ({"echo": 1}, "invalid_type", "echo"),
    ({"best_of": 1, "n": 2}, "invalid_value", "best_of"),
    ({"best_of": 0, "n": 2}, "invalid_value", "best_of"),
    ({"best_of": 129}, "integer_above_max_value", "best_of"),
    ({"best_of": 2, "stream": True}, "invalid_value", "best_of"),
    ({"best_of": 2, "n": 2, "stream": True}, "invalid_value", "best_of"),
    ({"stream_options": {}}, "invalid_value", "stream_options"),
    ({"suffix": 1}, "invalid_type", "suffix"),
    ({"messages": []}, "unknown_parameter", "messages"),
    ({"max_completion_tokens": 5}, "unknown_parameter", "max_completion_tokens"),
]


@pytest.mark.parametrize(("fields", "code", "param"), REFUSED)
def test_it_is_refused_where_it_is_wrong(fields: dict[str, Any], code: str, param: str, refuse: Refuse) -> None:
    assert refuse("completions", fields) == (code, param)


@pytest.mark.parametrize(
    "fields",
    [
        {"max_tokens": 0}, {"logprobs": 0}, {"logprobs": 5}, {"best_of": 0}, {"best_of": 20, "n": 20},
        {"best_of": 1, "n": 1, "stream": True}, {"suffix": ""}, {"top_k": 5}, {"prompt": ["a"] * 16, "n": 128},
        {"echo": True, "stop": ["a"], "user": "u", "seed": -1},
    ],
)  # fmt: skip
def test_it_is_taken(fields: dict[str, Any], refuse: Refuse) -> None:
    assert refuse("completions", fields) == (None, None)


@pytest.mark.parametrize("field", ["model", "prompt"])
def test_required_fields_are_required(field: str) -> None:
    body = {"model": "m", "prompt": "a"}
    del body[field]
    with pytest.raises(InvalidRequest) as caught:
        DIALECT.decode(json.dumps(body).encode(), profile="openai", strict=True)
    assert (caught.value.code, caught.value.param) == ("missing_required_parameter", field)


FRAMES = [
    Frame.of(ChoiceStarted(1), TextDelta(1, 'B"')),
    Frame.of(ChoiceStarted(0), TextDelta(0, "A"), ChoiceFinished(1, "length")),
    Frame.of(TextDelta(0, "é"), ChoiceFinished(0, "stop"), UsageReported(Usage(prompt_tokens=3, completion_tokens=4))),
]


def test_a_whole_answer(make_call: MakeCall) -> None:
    answer = json.loads(DIALECT.encode_answer(make_call("completions"), FRAMES, created=7))
    usage = answer.pop("usage")
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (3, 4, 7)
    assert answer == {
        "id": "cmpl-abc",
        "object": "text_completion",
        "created": 7,
        "model": "m",
        "system_fingerprint": "fp_0123456789",
        "choices": [
            {"text": "Aé", "index": 0, "logprobs": None, "finish_reason": "stop"},
            {"text": 'B"', "index": 1, "logprobs": None, "finish_reason": "length"},
        ],
    }


@pytest.mark.parametrize("with_usage", [False, True])
def test_a_stream_folds_to_the_whole_answer(with_usage: bool, make_call: MakeCall) -> None:
    fields: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": with_usage}}
    call = make_call("completions", fields)
    encoder = DIALECT.encoder(call, created=7)
    events = SseDecoder().feed(b"".join(map(encoder.encode, FRAMES)) + encoder.end())
    assert events.pop().data == b"[DONE]"
    chunks = [json.loads(event.data) for event in events]
    whole = json.loads(DIALECT.encode_answer(call, FRAMES, created=7))
    for chunk in chunks:
        assert {name: chunk[name] for name in chunk.keys() - {"choices", "usage"}} == {
            name: whole[name] for name in whole.keys() - {"choices", "usage"}
        }
    if with_usage:
        last = chunks.pop()
        assert (last["choices"], last["usage"]) == ([], whole["usage"])
        assert all(chunk["usage"] is None for chunk in chunks)
    else:
        assert not any("usage" in chunk for chunk in chunks)
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    for expected in whole["choices"]:
        own = [choice for choice in choices if choice["index"] == expected["index"]]
        assert "".join(choice["text"] for choice in own) == expected["text"]
        assert [choice["finish_reason"] for choice in own] == [None] * (len(own) - 1) + [expected["finish_reason"]]


def test_log_probabilities_go_with_their_chunk(make_call: MakeCall) -> None:
    entry = TokenLogprob(token="A", logprob=-0.5, bytes_=b"A", top=(TokenLogprob(token="B", logprob=-0.1),))
    encoder = DIALECT.encoder(make_call("completions", {"stream": True, "logprobs": 1}), created=7)
    (event,) = SseDecoder().feed(encoder.encode(Frame.of(ChoiceStarted(0), TextDelta(0, "A", (entry,)))))
    assert json.loads(event.data)["choices"][0]["logprobs"] == {
        "tokens": ["A"], "token_logprobs": [-0.5], "top_logprobs": [{"B": -0.1, "A": -0.5}], "text_offset": [0],
    }  # fmt: skip


def test_a_broken_stream_ends_with_an_error(make_call: MakeCall) -> None:
    encoder = DIALECT.encoder(make_call("completions", {"stream": True}), created=7)
    encoder.encode(FRAMES[0])
    with pytest.raises(OutOfOrder):
        encoder.end()
    (event,) = SseDecoder().feed(encoder.error(NarthexError("our secret")))
    assert json.loads(event.data)["error"]["message"] == "Internal error."


def test_usage_that_nobody_told_is_nought(make_call: MakeCall) -> None:
    frames = [Frame.of(ChoiceStarted(0), ChoiceFinished(0, "stop"))]
    call = make_call("completions", {"stream": True, "stream_options": {"include_usage": True}})
    assert json.loads(DIALECT.encode_answer(call, frames, created=7))["usage"]["total_tokens"] == 0
    encoder = DIALECT.encoder(call, created=7)
    encoder.encode(frames[0])
    assert b'"total_tokens":0' in encoder.end()
