"""Requests with additions of the caller's own, in every format that a provider may speak."""

import json
from typing import Any

import pytest

from narthex.core.capabilities import State, refusal
from narthex.core.errors import UnsupportedParameter, UpstreamRejected
from narthex.core.extras import HEADERS, PARAMS
from narthex.core.ports import Request, Surface
from narthex.dialects.openai_chat import ChatDialect
from narthex.dialects.openai_completions import CompletionsDialect
from narthex.providers.codec import AnyCodec
from narthex.providers.presets import PRESETS, codecs
from narthex.providers.traits import ModelTraits

ALLOWED = ModelTraits(extra_params=frozenset(("mirostat", "thinking")), extra_headers=frozenset(("x-team",)))
DIALECTS = {"chat": ChatDialect(), "completions": CompletionsDialect()}
BASE = {"chat": {"messages": [{"role": "user", "content": "Hi"}]}, "completions": {"prompt": "Once"}}
EVERY = [(name, surface) for name, preset in PRESETS.items() for surface in DIALECTS if surface in preset.surfaces]


def codec(name: str, surface: Surface = "chat", traits: ModelTraits = ALLOWED) -> AnyCodec:
    return codecs(PRESETS[name], traits)[surface]


def decoded(surface: str = "chat", **fields: Any) -> Request:
    body = json.dumps({"model": "m"} | BASE[surface] | fields).encode()
    return DIALECTS[surface].decode(body, profile="openai", strict=True).request


@pytest.mark.parametrize(("name", "surface"), EVERY)
def test_every_server_gets_what_is_allowed_for_it(name: str, surface: Surface) -> None:
    added = {"mirostat": {"tau": [1, 0.5, "x", None]}}
    request, taken = decoded(surface, **{PARAMS: added, HEADERS: {"X-Team": "a"}}), codec(name, surface)
    assert refusal(request.fields, taken.capabilities(), model="m") is None
    plain = json.loads(taken.build(decoded(surface), model="theirs"))
    assert json.loads(taken.build(request, model="theirs")) == plain | added


@pytest.mark.parametrize(("name", "surface"), EVERY)
def test_nothing_is_allowed_by_itself(name: str, surface: Surface) -> None:
    honoured = codec(name, surface, PRESETS[name].traits).capabilities()
    for field in (PARAMS, HEADERS):
        error = refusal(decoded(surface, **{field: {"x-team": "a"}}).fields, honoured, model="m")
        assert error is not None
        assert (error.code, error.param) == ("unsupported_parameter", field)
        assert refusal(decoded(surface, **{field: {}}).fields, honoured, model="m") is None


@pytest.mark.parametrize("field", [PARAMS, HEADERS])
def test_what_is_not_allowed_is_named(field: str) -> None:
    honoured = codec("openai").capabilities()
    error = refusal(decoded(**{field: {"x-other": "a"}}).fields, honoured, model="m")
    assert error is not None
    assert (error.code, error.param) == ("unsupported_parameter", f"{field}.x-other")


def test_one_may_be_allowed_without_the_other() -> None:
    honoured = codec("openai", traits=ModelTraits(extra_headers=frozenset(("x-a", "x-b")))).capabilities()
    assert PARAMS not in honoured
    assert getattr(honoured[HEADERS], "limits", "") == "x-a, x-b"
    assert honoured["model"] is State.NATIVE


def test_what_is_sent_anyway_is_not_replaced() -> None:
    thinks = ModelTraits(extra_params=frozenset(("thinking",)))
    added: dict[str, Any] = {PARAMS: {"thinking": {"type": "enabled", "budget_tokens": 5000}}}
    taken = codec("anthropic", traits=thinks)
    assert json.loads(taken.build(decoded(**added), model="c"))["thinking"] == added[PARAMS]["thinking"]
    with pytest.raises(UnsupportedParameter) as caught:
        taken.build(decoded(reasoning_effort="low", **added), model="c")
    assert caught.value.param == f"{PARAMS}.thinking"


def test_errors_in_a_stream_do_not_repeat_what_was_added() -> None:
    request = decoded(stream=True, **{HEADERS: {"x-team": "very-secret"}})
    event = {"error": {"message": "no very-secret here", "type": "invalid_request_error"}}
    decoder = codec("openai").decoder(request)
    with pytest.raises(UpstreamRejected) as caught:
        list(decoder.feed(b"data: " + json.dumps(event).encode() + b"\n\n"))
    assert caught.value.message == "no *** here"


def test_answers_to_requests_with_additions_are_read_as_others() -> None:
    body = json.dumps({"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}).encode()
    taken, request = codec("openai"), decoded(**{PARAMS: {"mirostat": 1}})
    decoder = taken.decoder(request)
    frames = [*decoder.feed(body), *decoder.end()]
    frame = taken.read(request, body)
    assert frame is not None
    assert frame.events == frames[0].events
