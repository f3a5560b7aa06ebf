"""`/v4/beta/completions`: its own names for fields of `/v1/completions`, and log probabilities as chats have them."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from narthex.core.completions import OTHER_NAMES, CompletionRequest
from narthex.core.errors import EngineCrashed
from narthex.core.ports import Call, Decoded
from narthex.core.stream import ChoiceFinished, ChoiceStarted, Frame, TextDelta, TokenLogprob
from narthex.dialects import openai_completions, scale_completions
from narthex.dialects.openai_chat_answer import logprobs_object
from narthex.dialects.scale_completions import ScaleCompletionsDialect
from narthex.wire.sse import SseDecoder

Refuse = Callable[..., tuple[str | None, str | None]]
Decode = Callable[..., Decoded]
MakeCall = Callable[..., Call]
TEXT = "scale completions"
DIALECT = ScaleCompletionsDialect()
ENTRY = TokenLogprob(
    token="Hi", logprob=-0.5, bytes_=b"Hi", top=(TokenLogprob(token="Hi", logprob=-0.5, bytes_=b"Hi"),)
)


def request(decode: Decode, **fields: Any) -> CompletionRequest:
    made = decode(TEXT, fields).request
    assert isinstance(made, CompletionRequest)
    return made


@pytest.mark.parametrize(
    ("fields", "name", "sent"),
    [
        ({"max_new_tokens": 5}, "max_tokens", b"5"),
        ({"max_completion_tokens": 0}, "max_tokens", b"0"),
        ({"stop_sequences": ["a", "b"]}, "stop", b'["a", "b"]'),
        ({"return_token_log_probs": True}, "logprobs", b"0"),
        ({"logprobs": True}, "logprobs", b"0"),
        ({"logprobs": True, "top_logprobs": 20}, "logprobs", b"20"),
        ({"logprobs": False, "return_token_log_probs": True, "top_logprobs": 3}, "logprobs", b"3"),
    ],
)
def test_fields_by_their_other_names(fields: dict[str, Any], name: str, sent: bytes, decode: Decode) -> None:
    made = request(decode, **fields)
    assert bytes(made.sent[name]) == sent
    assert not {*OTHER_NAMES} & set(made.sent)
    assert set(made.fields) == {"model", "prompt", name, *fields}
    sampling = made.sampling
    assert {"max_tokens": sampling.max_tokens, "stop": list(sampling.stop), "logprobs": sampling.logprobs}[
        name
    ] == json.loads(sent)


def test_the_callers_own_name_comes_first(decode: Decode) -> None:
    for other, name in OTHER_NAMES.items():
        value: Any = {"stop": ["a"], "max_tokens": 4, "logprobs": True}[name]
        more: dict[str, Any] = {}
        if other == "top_logprobs":
            value, more = 2, {"return_token_log_probs": True}
        names = list(request(decode, **{other: value}, **more).fields)
        assert names.index(other) < names.index(name)


@pytest.mark.parametrize("fields", [{}, {"logprobs": False}, {"return_token_log_probs": False}, {"stop_sequences": []}])
def test_what_asks_for_nothing(fields: dict[str, Any], decode: Decode) -> None:
    made = request(decode, **fields)
    assert (made.sampling.max_tokens, made.sampling.logprobs, made.sampling.stop) == (16, None, ())
    assert set(made.sent) - {"stop_sequences"} == {"model", "prompt"}


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"prompt": None}, "invalid_type", "prompt"),
        ({"prompt": ["a"]}, "invalid_type", "prompt"),
        ({"max_tokens": 1, "max_new_tokens": 1}, "invalid_value", "max_new_tokens"),
        ({"max_new_tokens": 1, "max_completion_tokens": 1}, "invalid_value", "max_new_tokens"),
        ({"stop": "a", "stop_sequences": ["a"]}, "invalid_value", "stop_sequences"),
        ({"stop_sequences": "a"}, "invalid_type", "stop_sequences"),
        ({"stop_sequences": [""]}, "invalid_value", "stop_sequences[0]"),
        ({"stop_sequences": list("abcde")}, "array_above_max_length", "stop_sequences"),
        ({"logprobs": 1}, "invalid_type", "logprobs"),
        ({"top_logprobs": 1}, "invalid_value", "top_logprobs"),
        ({"top_logprobs": 21, "logprobs": True}, "integer_above_max_value", "top_logprobs"),
        ({"return_token_log_probs": 1}, "invalid_type", "return_token_log_probs"),
        ({"max_new_tokens": -1}, "integer_below_min_value", "max_new_tokens"),
        ({"messages": []}, "unknown_parameter", "messages"),
        ({"memory_strategy": {"name": "last_k", "k": 1}}, "unknown_parameter", "memory_strategy"),
        ({"chat_template": "x"}, "unknown_parameter", "chat_template"),
        ({"guided_decoding_backend": "auto"}, "unknown_parameter", "guided_decoding_backend"),
        ({"metadata": {}}, "unknown_parameter", "metadata"),
    ],
)
def test_it_is_refused_where_it_is_wrong(fields: dict[str, Any], code: str, param: str, refuse: Refuse) -> None:
    assert refuse(TEXT, fields) == (code, param)


def test_what_is_known_is_known_on_v1_too_or_means_the_same_under_another_name() -> None:
    own = set(scale_completions.FORM.known) - set(openai_completions.FORM.known)
    of_chats = {
        "audio", "modalities", "parallel_tool_calls", "prediction", "response_format", "tools", "tool_choice",
    }  # fmt: skip
    assert own == set(OTHER_NAMES) | of_chats


# --- answers ---------------------------------------------------------------------------------------------------------

EVENTS = (ChoiceStarted(0), TextDelta(0, "Hi", (ENTRY,)), ChoiceFinished(0, "stop"))


def test_a_whole_answer_has_the_log_probabilities_of_a_chat(make_call: MakeCall) -> None:
    answer = json.loads(DIALECT.encode_answer(make_call(TEXT, {"logprobs": True}), [Frame.of(*EVENTS)], created=7))
    assert answer["object"] == "text_completion"
    assert answer["choices"] == [
        {"text": "Hi", "index": 0, "logprobs": logprobs_object((ENTRY,)), "finish_reason": "stop"}
    ]
    plain = json.loads(DIALECT.encode_answer(make_call(TEXT), [Frame.of(*EVENTS)], created=7))
    assert plain["choices"][0]["logprobs"] is None


def test_a_stream_has_no_end_mark_and_names_its_errors(make_call: MakeCall) -> None:
    asked = {"logprobs": True, "stream": True, "stream_options": {"include_usage": True}}
    encoder = DIALECT.encoder(make_call(TEXT, asked), created=7)
    chunks = [json.loads(event.data) for event in SseDecoder().feed(encoder.encode(Frame.of(*EVENTS)) + encoder.end())]
    assert chunks[0]["choices"][0]["logprobs"] == logprobs_object((ENTRY,))
    assert (chunks[-1]["choices"], chunks[-1]["usage"]["total_tokens"]) == ([], 0)
    (event,) = SseDecoder().feed(encoder.error(EngineCrashed()))
    assert bytes(event.name) == b"error"
    assert json.loads(event.data)["detail"] == EngineCrashed().public_message
