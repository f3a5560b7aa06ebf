"""Chats that are spoken: what upstreams write, and what is made of a stream."""

import base64
import json
from typing import Any

import msgspec
from tests.served_gateway import DONE, ROLE, STOP, chunk, whole

from narthex.testing.scripted import END, Reply, sse, stream_head

ALOUD: dict[str, Any] = {"modalities": ["text", "audio"], "audio": {"voice": "sage", "format": "wav"}}
STREAMED: dict[str, Any] = ALOUD | {"stream": True, "audio": {"voice": "sage", "format": "pcm16"}}
USED = {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9}
SAID = "The tide is low. We can walk to the island now, if you like."


def choice(index: int = 0, finish: str = "stop", **message: Any) -> dict[str, Any]:
    return {"index": index, "message": {"role": "assistant", "content": SAID} | message, "finish_reason": finish}


def answer(*choices: dict[str, Any]) -> Reply:
    return whole(
        {"id": "x", "object": "chat.completion", "created": 1, "model": "x", "choices": choices, "usage": USED}
    )


def written(*pieces: str, finish: bytes = STOP) -> Reply:
    """A stream of these pieces, with usage."""
    used = json.dumps({"id": "x", "created": 1, "model": "x", "choices": [], "usage": USED}).encode()
    return Reply(stream_head(), sse(ROLE, *(chunk({"content": piece}) for piece in pieces), finish, used, DONE), END)


class Heard(msgspec.Struct):
    """What a choice of a stream told, in order, and put together."""

    kinds: list[str] = []
    id: str = ""
    transcript: str = ""
    data: bytes = b""
    expires_at: int = 0
    finish: str = ""


def heard_of(chunks: list[dict[str, Any]], index: int = 0) -> Heard:
    found = Heard(kinds=[])
    for each in (one for told in chunks for one in told["choices"] if one["index"] == index):
        audio = each["delta"].get("audio") or {}
        assert not each["delta"].get("content")
        found.kinds += audio
        found.id = audio.get("id", found.id)
        found.transcript += audio.get("transcript", "")
        found.data += base64.b64decode(audio.get("data", ""))
        found.expires_at = audio.get("expires_at", found.expires_at)
        found.finish = each["finish_reason"] or found.finish
    return found
