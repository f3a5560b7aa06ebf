"""Requests as callers send them, and calls to answer."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from narthex.core.errors import RequestError
from narthex.core.keys import Account, Grants, Key, Principal, Project
from narthex.core.ports import Call, Decoded, Dialect
from narthex.dialects.openai_chat import ChatDialect
from narthex.dialects.openai_completions import CompletionsDialect
from narthex.dialects.openai_embeddings import EmbeddingsDialect
from narthex.dialects.openai_images import ImagesDialect
from narthex.dialects.openai_speech import SpeechDialect
from narthex.dialects.scale_chat import ScaleChatDialect
from narthex.dialects.scale_completions import ScaleCompletionsDialect

DIALECTS: dict[str, Dialect] = {
    "chat": ChatDialect(),
    "completions": CompletionsDialect(),
    "embeddings": EmbeddingsDialect(),
    "images": ImagesDialect(),
    "speech": SpeechDialect(),
    "scale chat": ScaleChatDialect(),
    "scale completions": ScaleCompletionsDialect(),
}
_CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
_TEXT: dict[str, Any] = {"model": "m", "prompt": "Once"}
LEAST: dict[str, dict[str, Any]] = {
    "chat": _CHAT,
    "completions": _TEXT,
    "scale chat": _CHAT,
    "scale completions": _TEXT,
    "embeddings": {"model": "m", "input": "text"},
    "images": {"model": "m", "prompt": "A cat"},
    "speech": {"model": "m", "input": "Hello", "voice": "alloy"},
}

Decode = Callable[..., Decoded]
Refuse = Callable[..., tuple[str | None, str | None]]
MakeCall = Callable[..., Call]


def _decode(surface: str, fields: dict[str, Any], *, profile: str = "openai", strict: bool = True) -> Decoded:
    body = json.dumps(LEAST[surface] | fields).encode()
    return DIALECTS[surface].decode(body, profile=profile, strict=strict)


@pytest.fixture
def decode() -> Decode:
    """A least request of a surface, by its name in `DIALECTS`, with more fields."""
    return _decode


@pytest.fixture
def refuse() -> Refuse:
    """(code, param) of the error that such a request meets; (None, None) when it is taken."""

    def refuse(surface: str, fields: dict[str, Any], **options: Any) -> tuple[str | None, str | None]:
        try:
            _decode(surface, fields, **options)
        except RequestError as error:
            found = error
        else:
            return None, None
        assert (found.status, found.type) == (400, "invalid_request_error")
        return found.code, found.param

    return refuse


@pytest.fixture
def make_call() -> MakeCall:
    """A call that was decoded from a least request with more fields."""

    def make_call(surface: str, fields: dict[str, Any] | None = None, *, profile: str = "openai") -> Call:
        key = Key(
            id="k", account_id="a", project_id="p", name="n", prefix="nx-", created_ms=0, grants=Grants(),
            profile=profile,  # type: ignore[arg-type]
        )  # fmt: skip
        principal = Principal(
            key=key, account=Account(id="a", name="a"), project=Project(id="p", account_id="a", name="p")
        )
        request = _decode(surface, fields or {}).request
        call = Call(request, id="abc", surface=DIALECTS[surface].surface, principal=principal, started_s=0.0)
        call.fingerprint = "fp_0123456789"
        return call

    return make_call
