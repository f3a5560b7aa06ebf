"""Requests as callers write them, for codecs, and what codecs make of them."""

import json
from typing import Any

from narthex.core.chat import ChatRequest
from narthex.core.completions import CompletionRequest
from narthex.core.ports import Request
from narthex.dialects.openai_chat import ChatDialect
from narthex.dialects.openai_completions import CompletionsDialect
from narthex.providers.codec import AnyCodec

HI = {"role": "user", "content": "Hi"}


def chat(**fields: Any) -> ChatRequest:
    body = json.dumps({"model": "m", "messages": [HI]} | fields).encode()
    request = ChatDialect().decode(body, profile="openai", strict=True).request
    assert isinstance(request, ChatRequest)
    return request


def completion(**fields: Any) -> CompletionRequest:
    body = json.dumps({"model": "m", "prompt": "Once"} | fields).encode()
    request = CompletionsDialect().decode(body, profile="openai", strict=True).request
    assert isinstance(request, CompletionRequest)
    return request


def sent(codec: AnyCodec, request: Request) -> dict[str, Any]:
    """The body that a server receives."""
    body: dict[str, Any] = json.loads(codec.build(request, model="theirs"))
    return body
