"""`/v4/beta/chat/completions`: the fields and messages that differ from `/v1`, and how its streams end."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.relayed_chunks import ENDS, alike, spoken

from narthex.core.chat import ChatRequest, ImagePart, TextPart, ToolCall
from narthex.core.errors import NarthexError, UpstreamTimeout
from narthex.core.ports import Call, Decoded
from narthex.core.stream import ChoiceFinished, ChoiceStarted, Frame, TextDelta, Usage, UsageReported
from narthex.core.tools import CACHED
from narthex.dialects import openai_chat, scale_chat
from narthex.dialects.openai_chat_answer import FORMAT, ChatStream
from narthex.dialects.scale_chat import ScaleChatDialect
from narthex.wire.sse import SseDecoder

Refuse = Callable[..., tuple[str | None, str | None]]
Decode = Callable[..., Decoded]
MakeCall = Callable[..., Call]
CHAT = "scale chat"
DIALECT = ScaleChatDialect()
HI = {"role": "user", "content": "Hi"}
NOTHING = {"refusal": None, "function_call": None, "tool_calls": None, "audio": None}
EMPTY: dict[str, Any] = {"refusal": "", "function_call": {}, "tool_calls": [], "audio": {}}
TOOL = {"type": "function", "function": {"name": "look"}}


def request(decode: Decode, **fields: Any) -> ChatRequest:
    made = decode(CHAT, fields).request
    assert isinstance(made, ChatRequest)
    return made


def sent(made: ChatRequest) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(bytes(made.sent["messages"]))
    return found


# --- fields ----------------------------------------------------------------------------------------------------------


def test_the_fields_are_those_of_v1_but_for_what_this_api_does_not_know() -> None:
    assert set(scale_chat.FORM.known) == set(openai_chat.FORM.known) - scale_chat.NOT_HERE
    assert set(openai_chat.FORM.known) > scale_chat.NOT_HERE


@pytest.mark.parametrize("name", sorted(scale_chat.NOT_HERE))
def test_fields_of_v1_alone_are_unknown(name: str, refuse: Refuse) -> None:
    assert refuse(CHAT, {name: "x"}) == ("unknown_parameter", name)


def test_a_lenient_key_has_them_named(decode: Decode) -> None:
    assert decode(CHAT, {"store": True, "metadata": {"a": "b"}}, strict=False).ignored == ("store", "metadata")


@pytest.mark.parametrize(("seed", "meant"), [(-1, None), (-1.0, None), (0, 0), (-2, -2), (7, 7)])
def test_a_seed_of_minus_one_is_none(seed: float, meant: int | None, decode: Decode) -> None:
    made = request(decode, seed=seed)
    assert made.fields.get("seed") == meant
    assert ("seed" in made.sent) is (meant is not None)


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"seed": "1"}, "invalid_type", "seed"),
        ({"audio": {"voice": "alloy", "format": "aac"}}, "invalid_value", "audio.format"),
        ({"audio": {"voice": {"id": "v"}, "format": "wav"}}, "invalid_type", "audio.voice"),
        ({"audio": {"voice": "alloy"}}, "missing_required_parameter", "audio.format"),
        ({"tools": [TOOL | {"type": "any"}]}, "invalid_value", "tools[0].type"),
        ({"tools": [TOOL | {"cache_control": {"type": "persistent"}}]}, "invalid_value", "tools[0].cache_control.type"),
        ({"top_logprobs": 1}, "invalid_value", "top_logprobs"),
        ({"Messages": []}, "unknown_parameter", "Messages"),
    ],
)
def test_it_is_refused_where_it_is_wrong(fields: dict[str, Any], code: str, param: str, refuse: Refuse) -> None:
    assert refuse(CHAT, fields) == (code, param)


def test_a_profile_does_not_narrow_it(decode: Decode) -> None:
    made = decode(CHAT, {"n": 3, "response_format": {"type": "json_object"}}, profile="oxy").request
    assert isinstance(made, ChatRequest)
    assert made.sampling.n == 3
    assert made.sampling.max_tokens is None
    assert "max_tokens" not in decode(CHAT, {}, profile="ionos").request.fields


@pytest.mark.parametrize("surface", ["chat", CHAT])
def test_marks_for_the_cache_are_a_field_of_their_own(surface: str, decode: Decode) -> None:
    marked = TOOL | {"cache_control": {"type": "ephemeral"}}
    assert decode(surface, {"tools": [marked]}).request.fields[CACHED] is True
    for plain in (TOOL, TOOL | {"cache_control": None}):
        assert CACHED not in decode(surface, {"tools": [plain]}).request.fields


# --- messages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("members", [NOTHING, EMPTY])
@pytest.mark.parametrize(
    "message",
    [
        HI,
        {"role": "system", "content": "Be kind.", "name": "a"},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}], "name": "b"},
        {"role": "assistant", "content": "Hello"},
        {"role": "function", "content": None, "name": "f"},
    ],
)
def test_messages_may_have_the_members_of_answers_with_nothing_in_them(
    message: dict[str, Any], members: dict[str, Any], decode: Decode
) -> None:
    made = request(decode, messages=[message | members, HI])
    assert made.messages == request(decode, messages=[message, HI]).messages
    assert sent(made) == [message, HI]


def test_results_of_tools_may_too(decode: Decode) -> None:
    asked = {"role": "assistant", "tool_calls": [{"id": "c", **TOOL}], "content": None}
    result = {"role": "tool", "content": "4", "tool_call_id": "c"}
    assert sent(request(decode, messages=[HI, asked, result | EMPTY]))[2] == result


@pytest.mark.parametrize("name", ["refusal", "function_call", "tool_calls", "audio"])
def test_only_the_assistant_has_something_in_them(name: str, refuse: Refuse) -> None:
    value = "No." if name == "refusal" else {"id": "a"}
    assert refuse(CHAT, {"messages": [HI | {name: value}]}) == ("invalid_value", f"messages[0].{name}")


def test_an_answer_can_be_sent_back_as_it_is(decode: Decode) -> None:
    answer = {
        "role": "assistant", "content": None, "refusal": None, "function_call": None,
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "look", "arguments": None, "type": None}}],
    }  # fmt: skip
    made = request(decode, messages=[HI, answer, {"role": "tool", "content": "4", "tool_call_id": "c"}])
    assert made.messages[1].tool_calls == (ToolCall(id="c", name="look", arguments="{}"),)
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    assert sent(made)[1] == {"role": "assistant", "content": None, "tool_calls": [call]}


def test_what_was_called_stays_as_it_was(decode: Decode) -> None:
    function = {"name": "look", "arguments": '{"a":1}', "type": "function"}
    answer = {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": function, "index": 0}]}
    made = request(decode, messages=[answer, HI])
    assert made.messages[0].tool_calls[0].arguments == '{"a":1}'
    assert sent(made)[0]["tool_calls"][0]["function"] == {"name": "look", "arguments": '{"a":1}'}


def test_speech_is_sent_back_by_its_id(decode: Decode) -> None:
    spoken_ = {"id": "a1", "data": "UklGRg==", "expires_at": 1, "transcript": "Hi"}
    made = request(decode, messages=[{"role": "assistant", "content": None, "audio": spoken_}, HI])
    assert made.messages[0].audio_id == "a1"
    assert sent(made)[0]["audio"] == {"id": "a1"}


def test_a_refusal_and_an_older_call_stay(decode: Decode) -> None:
    call = {"name": "look", "arguments": "{}"}
    told = [{"role": "assistant", "refusal": "No."}, {"role": "assistant", "function_call": call}, HI]
    assert sent(request(decode, messages=told)) == told


def test_messages_of_v1_stay_the_callers_own_bytes() -> None:
    written = b'[ {"role":"user" , "content":"say \\"tool_calls\\""} ]'
    made = DIALECT.decode(b'{"model":"m","messages":%b}' % written, profile="openai", strict=True).request
    assert bytes(made.sent["messages"]) == written


def test_parts_that_stand_alone_and_images_that_tell_their_type(decode: Decode) -> None:
    image = {"url": "iVBORw0KGgo=", "media_type": "image/png"}
    made = request(
        decode,
        messages=[
            {"role": "user", "content": {"type": "text", "text": "Hi"}},
            {"role": "user", "content": {"type": "image_url", "image_url": image}},
        ],
    )
    assert made.messages[0].content == (TextPart("Hi"),)
    assert made.messages[1].content == (ImagePart("data:image/png;base64,iVBORw0KGgo=", media_type="image/png"),)


@pytest.mark.parametrize(
    ("message", "code", "param"),
    [
        ({"content": "Hi"}, "missing_required_parameter", "messages[0].role"),
        ({"role": "assistant"} | NOTHING, "missing_required_parameter", "messages[0].content"),
        ({"role": "tool", "content": "4"}, "missing_required_parameter", "messages[0].tool_call_id"),
        (
            {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"arguments": "{}"}}]},
            "missing_required_parameter",
            "messages[0].tool_calls[0].function.name",
        ),
        (HI | {"x": None}, "unknown_parameter", "messages[0].x"),
        *(
            ({"role": "assistant", "content": "Hi", name: value}, "invalid_type", f"messages[0].{name}")
            for name, value in (("refusal", False), ("function_call", False), ("audio", 0))
        ),
    ],
)
def test_messages_are_refused_where_they_are_wrong(
    message: dict[str, Any], code: str, param: str, refuse: Refuse
) -> None:
    assert refuse(CHAT, {"messages": [message]}) == (code, param)


# --- answers ---------------------------------------------------------------------------------------------------------

ANSWER = (ChoiceStarted(0), TextDelta(0, "Hi"), ChoiceFinished(0, "stop"), UsageReported(Usage(prompt_tokens=3)))


def test_whole_answers_are_those_of_v1(make_call: MakeCall) -> None:
    frames = [Frame.of(*ANSWER)]
    here = DIALECT.encode_answer(make_call(CHAT), frames, created=7)
    assert here == openai_chat.ChatDialect().encode_answer(make_call("chat"), frames, created=7)


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": True}}])
@pytest.mark.parametrize(
    "frames",
    [
        [Frame.of(*ANSWER[:2]), Frame.of(*ANSWER[2:])],
        [Frame(FORMAT, chunk, decode=lambda _: ()) for chunk in (*spoken(alike, "a", "b"), alike({}, ENDS))],
    ],
    ids=["told", "passed on"],
)
def test_streams_are_those_of_v1_without_an_end_mark(
    frames: list[Frame], options: dict[str, Any], make_call: MakeCall
) -> None:
    def written(encoder: ChatStream) -> bytes:
        return b"".join(map(encoder.encode, frames)) + encoder.end()

    asked = {"stream": True, **options}
    here = written(DIALECT.encoder(make_call(CHAT, asked), created=7))
    there = written(openai_chat.ChatDialect().encoder(make_call("chat", asked), created=7))
    assert here + b"data: [DONE]\n\n" == there
    assert b"[DONE]" not in here


@pytest.mark.parametrize("error", [UpstreamTimeout(), NarthexError("secret")])
def test_an_error_in_a_stream_has_a_name(error: NarthexError, make_call: MakeCall) -> None:
    (event,) = SseDecoder().feed(DIALECT.encoder(make_call(CHAT, {"stream": True}), created=7).error(error))
    assert bytes(event.name) == b"error"
    told = json.loads(event.data)
    assert told == {
        "detail": error.public_message,
        "error": {"message": error.public_message, "type": error.type, "param": None, "code": error.code},
    }
    assert "secret" not in told["detail"]
