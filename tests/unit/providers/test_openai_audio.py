"""Chats that OpenAI's servers speak themselves, as events."""

import base64
import json
from typing import Any

import pytest

from narthex.core.fold import folded
from narthex.core.stream import AudioDelta, ChoiceStarted, Frame, Usage
from narthex.providers.openai import ChatDecoder
from narthex.providers.openai_whole import read_whole
from narthex.wire.sse import encode

USED = {
    "prompt_tokens": 3, "completion_tokens": 9, "prompt_tokens_details": {"audio_tokens": 2},
    "completion_tokens_details": {"audio_tokens": 7},
}  # fmt: skip


def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    return encode(json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}).encode())


def test_a_stream() -> None:
    decoder = ChatDecoder()
    deltas = [{"id": "a"}, {"transcript": "Hi."}, {"data": base64.b64encode(b"abc").decode()}, {"expires_at": 5}]
    frames: list[Frame] = []
    for data in (*(chunk({"audio": delta}) for delta in deltas), chunk({}, "stop")):
        frames += decoder.feed(data)
    assert frames[0].has_output
    fold = folded([*frames, *decoder.end()])
    audio = fold.choices[0].audio
    assert audio is not None
    assert (audio.id, "".join(audio.transcript), b"".join(audio.data), audio.expires_at) == ("a", "Hi.", b"abc", 5)


def test_a_whole_answer() -> None:
    message = {
        "role": "assistant",
        "content": None,
        "audio": {"id": "a", "data": "AAEC", "expires_at": 5, "transcript": ""},
    }
    answer = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": USED}
    frame = read_whole(json.dumps(answer).encode(), choices=1)
    assert AudioDelta(choice=0, id="a", data=b"\0\1\2", expires_at=5) in frame.events
    assert frame.usage == Usage(
        prompt_tokens=3, completion_tokens=9, prompt_audio_tokens=2, completion_audio_tokens=7
    )  # fmt: skip


@pytest.mark.parametrize("told", [{"data": "?"}, {"id": 1}, {}, {"other": "x"}, 0, "a"], ids=str)
def test_what_is_no_sound_is_no_event(told: Any) -> None:
    (frame,) = ChatDecoder().feed(chunk({"audio": told}))
    assert frame.events == (ChoiceStarted(0),)
