"""Requests as callers send them; the same bytes in every run."""

import base64
import json
import random
from typing import Any

MODEL = "gpt-4o-mini"
PROSE = (
    "the of and a to in is you that it he was for on are as with his they at be this have from or one had by word but "
    "not what all were we when your can said there use an each which she do how their if will up other about out many"
)
IMAGE_BYTES = 1_500_000


def bodies() -> dict[str, bytes]:
    """By mode: chats of 2, 20 (half of it tools) and 150 KB, one of 2 MB with an image, and one that is streamed."""
    draw = random.Random(7)
    return {
        "json2k": body(chat(draw, 1_800)),
        "json20k": body(chat(draw, 9_000), tools=[tool(draw, number) for number in range(12)], tool_choice="auto"),
        "json150k": body(chat(draw, 148_000)),
        "json2m": body(with_image(draw)),
        "stream64": body(chat(draw, 1_800), stream=True, stream_options={"include_usage": True}),
    }


def body(messages: list[dict[str, Any]], **fields: Any) -> bytes:
    request = {"model": MODEL, "messages": messages, "temperature": 0.7, "max_tokens": 512, "user": "u-1", **fields}
    return json.dumps(request, separators=(",", ":")).encode()


def text(draw: random.Random, length: int) -> str:
    words = " ".join(draw.choices(PROSE.split(), k=length // 2))
    return words[:length]


def chat(draw: random.Random, length: int) -> list[dict[str, Any]]:
    """A system prompt and some turns, the caller's last."""
    turn = max(300, length // 11)
    turns = max(1, (length - 300) // turn) | 1
    roles = ["system", *(("assistant" if number % 2 else "user") for number in range(turns))]
    return [{"role": role, "content": text(draw, 300 if role == "system" else turn)} for role in roles]


def tool(draw: random.Random, number: int) -> dict[str, Any]:
    properties = {
        f"argument_{argument}": {"type": draw.choice(["string", "integer", "boolean"]), "description": text(draw, 90)}
        for argument in range(5)
    }
    parameters = {"type": "object", "properties": properties, "required": ["argument_0"], "additionalProperties": False}
    function = {"name": f"tool_{number}", "description": text(draw, 200), "parameters": parameters}
    return {"type": "function", "function": function}


def with_image(draw: random.Random) -> list[dict[str, Any]]:
    url = "data:image/png;base64," + base64.b64encode(draw.randbytes(IMAGE_BYTES)).decode()
    parts = [{"type": "text", "text": text(draw, 200)}, {"type": "image_url", "image_url": {"url": url}}]
    return [{"role": "system", "content": text(draw, 300)}, {"role": "user", "content": parts}]
