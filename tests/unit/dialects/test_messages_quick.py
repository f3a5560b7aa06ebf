"""Messages that are nothing but text are read in one go, and no otherwise than field by field."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from narthex.core.chat import Message
from narthex.core.errors import RequestError
from narthex.core.keys import PROFILES
from narthex.dialects.body import Body, Form
from narthex.dialects.fields import Field
from narthex.dialects.messages import MESSAGES
from narthex.dialects.openai_chat import EXTENSIONS, FIELDS, REQUIRED
from narthex.dialects.sampling import NOT_BUILT
from narthex.wire.json import UNREADABLE

FURTHER = EXTENSIONS | NOT_BUILT
WITHOUT = {name: msgspec.structs.replace(field, quick=None) for name, field in FIELDS.items()}


def quickly(field: Field, raw: bytes) -> Any:
    """The value; None where it takes the long way."""
    assert field.quick is not None
    try:
        return field.quick.read(msgspec.Raw(raw))
    except UNREADABLE:
        return None


def long_way(raw: bytes) -> Any:
    """The messages, or the error, field by field."""
    try:
        return MESSAGES.parse(msgspec.json.decode(raw), "messages")
    except RequestError as error:
        return error


def read(form: Form, body: bytes, profile: str) -> Body | tuple[str, str | None, str | None]:
    try:
        return form.read(body, profile=profile, strict=True)
    except RequestError as error:
        return error.message, error.param, error.code


# --- any messages ----------------------------------------------------------------------------------------------------

_TEXTS = st.sampled_from(["", "Hi", "äöü😀", "\u0000", '"content"', "user"]) | st.text(max_size=4)
_PARTS = st.lists(
    st.fixed_dictionaries({"type": st.sampled_from(["text", "refusal", "file"])}, optional={"text": _TEXTS}), max_size=2
)
_CONTENT = _TEXTS | st.none() | _PARTS | st.integers(0, 1) | st.just({"type": "text", "text": "a"})
_ROLE = st.sampled_from(["system", "developer", "user", "assistant", "tool", "function", "User", "", None, 5])
_PLAIN = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "developer", "user", "assistant"]), "content": _TEXTS}
)
_MESSAGE = st.fixed_dictionaries(
    {},
    optional={
        "role": _ROLE, "content": _CONTENT, "name": _TEXTS | st.none(), "refusal": _TEXTS, "tool_call_id": _TEXTS,
        "tool_calls": st.just([]), "x": st.none(), "Content": _TEXTS,
    },
)  # fmt: skip
_MESSAGES = st.lists(_PLAIN, max_size=3) | st.lists(_PLAIN | _MESSAGE, max_size=3) | _MESSAGE | _CONTENT


@given(_MESSAGES, st.booleans(), st.sampled_from([None, 1]))
@settings(max_examples=100, deadline=None)
def test_read_quickly_it_is_the_same_or_nothing(messages: Any, ascii_: bool, indent: int | None) -> None:
    raw = json.dumps(messages, ensure_ascii=ascii_, indent=indent).encode()
    found, expected = quickly(MESSAGES, raw), long_way(raw)
    if isinstance(expected, RequestError):
        assert found is None
    else:
        assert found is None or found == expected


@pytest.mark.parametrize(
    "raw",
    [
        b'[{"role":"user","content":"a"}]',
        b' [ { "content" : "a" , "role" : "assistant" } ] ',
        rb'[{"role":"us\u0065r","content":"\u00e4\n\""}]',
        b'[{"role":"user","content":"a","content":"b"}]',
        b'[{"role":"user","role":"system","content":"a"}]',
        b'[{"role":"developer","content":""},{"role":"system","content":"b"}]',
    ],
)
def test_plain_text_is_read_quickly(raw: bytes) -> None:
    found = quickly(MESSAGES, raw)
    assert found is not None
    assert found == long_way(raw)
    assert all(type(message) is Message for message in found)


@pytest.mark.parametrize(
    "raw",
    [
        b"[]",
        b"null",
        b"{}",
        b'[{"role":"user"}]',
        b'[{"role":"user","content":null}]',
        b'[{"role":"tool","content":"a"}]',
        b'[{"role":"user","content":"a","name":"n"}]',
        b'[{"role":"user","content":"a","name":null}]',
        b'[{"role":"user","content":"a"},{"role":"user","content":[]}]',
        b'[{"role":"user","content":"a"}',
        rb'[{"role":"user","content":"\ud800"}]',
        b'[{"role":"user","content":"\xff"}]',
        b'[{"role":"user","content":"a","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}]",
    ],
)
def test_anything_else_is_left_to_the_long_way(raw: bytes) -> None:
    assert quickly(MESSAGES, raw) is None


# --- whole requests, in every profile --------------------------------------------------------------------------------

_FIELDS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.sampled_from([0, 1.5, 3, None, "1"]),
        "stop": st.sampled_from(["a", ["a"], ["a"] * 5, None]),
        "n": st.sampled_from([1, 0, None]),
        "max_tokens": st.sampled_from([1, 0, None]),
        "user": st.sampled_from(["me", None]),
        "service_tier": st.sampled_from(["auto", "flex", None]),
        "top_k": st.just(4),
        "guided_json": st.just({}),
        "reasoning_effort": st.just("low"),
        "unknown": st.none(),
    },
)


@given(_MESSAGES, _FIELDS, st.sampled_from(PROFILES), st.sampled_from([{"model": "m"}, {}, {"model": None}]))
@settings(max_examples=100, deadline=None)
@example([{"role": "developer", "content": "a"}], {}, "thyris", {"model": "m"})
@example([{"role": "developer", "content": "a"}], {}, "ionos", {"model": "m"})
@example([{"role": "developer", "content": "a"}], {}, "oxy", {"model": "m"})
def test_a_request_is_read_alike_in_every_profile(
    messages: Any, fields: dict[str, Any], profile: str, model: dict[str, Any]
) -> None:
    body = json.dumps({**model, "messages": messages, **fields}).encode()
    quick = read(Form("chat", FIELDS, REQUIRED, extensions=FURTHER), body, profile)
    slow = read(Form("chat", WITHOUT, REQUIRED, extensions=FURTHER), body, profile)
    assert quick == slow


def test_a_profile_that_takes_fewer_roles_still_does() -> None:
    form = Form("chat", FIELDS, REQUIRED, extensions=FURTHER)
    body = b'{"model":"m","messages":[{"role":"developer","content":"a"}]}'
    found = {profile: isinstance(read(form, body, profile), Body) for profile in PROFILES}
    assert (found["openai"], found["thyris"]) == (True, False)
