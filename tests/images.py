"""Images, and answers of servers that make them."""

import base64
import json
from typing import Any

from narthex.testing.scripted import END, Reply, chunked, response, stream_head
from narthex.wire import sse as wire

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(40))
JPEG = b"\xff\xd8\xff\xe0" + bytes(40)
WEBP = b"RIFF\x10\x00\x00\x00WEBPVP8 " + bytes(40)
USED = {
    "input_tokens": 11,
    "output_tokens": 7,
    "total_tokens": 18,
    "input_tokens_details": {"text_tokens": 10, "image_tokens": 1},
}
TRAITS = {"size": "1024x1024", "quality": "low", "background": "opaque", "output_format": "png"}


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def whole(*images: bytes, **more: Any) -> Reply:
    """An answer in one piece."""
    body = {"created": 1, "data": [{"b64_json": b64(image)} for image in images]} | more
    return Reply(response(json.dumps(body).encode(), headers=("content-type: application/json",)))


def event(kind: str, data: bytes, **more: Any) -> bytes:
    """One event of a stream, as it stands on the wire."""
    name = f"image_generation.{kind}"
    content = {"type": name, "b64_json": b64(data), "created_at": 1} | TRAITS | more
    return wire.encode(json.dumps(content).encode(), name.encode())


def streamed(*events: bytes) -> Reply:
    """An answer in events."""
    return Reply(stream_head(), chunked(*events, end=False), END)
