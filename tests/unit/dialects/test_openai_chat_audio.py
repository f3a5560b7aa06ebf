"""Answers of `/v1/chat/completions` that are spoken."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from narthex.core.ports import Call, Decoded
from narthex.core.stream import (
    AudioDelta,
    ChoiceFinished,
    ChoiceStarted,
    Event,
    Frame,
    TextDelta,
    Usage,
    UsageReported,
)
from narthex.dialects.openai_chat import ChatDialect
from narthex.wire.sse import SseDecoder

Refuse = Callable[..., tuple[str | None, str | None]]
Decode = Callable[..., Decoded]
MakeCall = Callable[..., Call]
DIALECT = ChatDialect()
ALOUD = {"modalities": ["text", "audio"], "audio": {"voice": "ash", "format": "pcm16"}}
USED = Usage(prompt_tokens=3, completion_tokens=9, prompt_audio_tokens=1, completion_audio_tokens=5)
SPOKEN: tuple[Event, ...] = (
    ChoiceStarted(0),
    AudioDelta(choice=0, id="audio_1"),
    AudioDelta(choice=0, transcript="Hel"),
    AudioDelta(choice=0, transcript="lo.", data=b"\x00\xff"),
    AudioDelta(choice=0, data=b"ab"),
    AudioDelta(choice=0, expires_at=99),
    ChoiceFinished(0, "stop"),
    UsageReported(USED),
)


def test_a_whole_answer(make_call: MakeCall) -> None:
    answer = json.loads(DIALECT.encode_answer(make_call("chat", ALOUD), [Frame.of(*SPOKEN)], created=7))
    message = answer["choices"][0]["message"]
    assert message == {
        "role": "assistant", "content": None, "refusal": None, "annotations": [],
        "audio": {
            "id": "audio_1", "transcript": "Hello.", "expires_at": 99, "data": base64.b64encode(b"\x00\xffab").decode(),
        },
    }  # fmt: skip
    assert answer["usage"]["prompt_tokens_details"]["audio_tokens"] == 1
    assert answer["usage"]["completion_tokens_details"]["audio_tokens"] == 5


@pytest.mark.parametrize("data", [b"ab", b"abc" * 100_000 + b"d"], ids=len)
@pytest.mark.parametrize("encoded", [True, False])
def test_a_sound_may_be_long_or_encoded_already(data: bytes, encoded: bool, make_call: MakeCall) -> None:
    text = base64.b64encode(data)
    sound = AudioDelta(choice=0, encoded=b'"%b"' % text) if encoded else AudioDelta(choice=0, data=data)
    events = (ChoiceStarted(0), sound, ChoiceFinished(0, "stop"))
    answer = json.loads(DIALECT.encode_answer(make_call("chat", ALOUD), [Frame.of(*events)], created=7))
    assert answer["choices"][0]["message"]["audio"]["data"] == text.decode()
    stream = DIALECT.encoder(make_call("chat", ALOUD | {"stream": True}), created=7)
    told = b"".join(stream.encode(Frame.of(event)) for event in events)
    assert b'{"audio":{"data":"' + text + b'"}}' in told


def test_what_an_answer_holds_may_be_sent_back(make_call: MakeCall, decode: Decode) -> None:
    answer = json.loads(DIALECT.encode_answer(make_call("chat", ALOUD), [Frame.of(*SPOKEN)], created=7))
    messages = [{"role": "user", "content": "Hi"}, answer["choices"][0]["message"]]
    assert decode("chat", {"messages": messages}).request.fields["messages"][1].audio_id == "audio_1"


def test_a_stream(make_call: MakeCall) -> None:
    stream = DIALECT.encoder(make_call("chat", ALOUD | {"stream": True}), created=7)
    data = b"".join([*(stream.encode(Frame.of(event)) for event in SPOKEN), stream.end()])
    chunks = [json.loads(event.data) for event in SseDecoder().feed(data) if event.data != b"[DONE]"]
    deltas: list[dict[str, Any]] = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas == [
        {"role": "assistant", "content": None, "refusal": None},
        {"audio": {"id": "audio_1"}},
        {"audio": {"transcript": "Hel"}},
        {"audio": {"transcript": "lo.", "data": "AP8="}},
        {"audio": {"data": "YWI="}},
        {"audio": {"expires_at": 99}},
        {},
    ]


def test_asked_for_log_probabilities_of_what_was_spoken_are_null(make_call: MakeCall) -> None:
    call = make_call("chat", ALOUD | {"logprobs": True})
    assert json.loads(DIALECT.encode_answer(call, [Frame.of(*SPOKEN)], created=7))["choices"][0]["logprobs"] is None
    with_text = (*SPOKEN[:-2], TextDelta(0, "a"), *SPOKEN[-2:])
    assert json.loads(DIALECT.encode_answer(call, [Frame.of(*with_text)], created=7))["choices"][0]["message"][
        "content"
    ] == "a"  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (ALOUD, (None, None)),
        (ALOUD | {"stream": True}, (None, None)),
        (ALOUD | {"audio": {"voice": "ash", "format": "mp3"}}, (None, None)),
        (ALOUD | {"audio": {"voice": "ash", "format": "mp3"}, "stream": True}, ("unsupported_value", "audio.format")),
        ({"audio": {"voice": "ash", "format": "mp3"}, "stream": True}, (None, None)),
        ({"modalities": ["audio"]}, ("missing_required_parameter", "audio")),
    ],
    ids=str,
)
def test_what_goes_together(fields: dict[str, Any], told: tuple[str | None, str | None], refuse: Refuse) -> None:
    assert refuse("chat", fields) == told
