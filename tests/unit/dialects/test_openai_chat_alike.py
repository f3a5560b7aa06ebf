"""Requests that differ from those before in nothing but their messages are read at once, and no otherwise than anew."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from narthex.core.chat import ChatRequest
from narthex.core.errors import NarthexError, RequestError
from narthex.core.sent import Alike, Sent
from narthex.dialects import alike
from narthex.dialects.openai_chat import ChatDialect
from narthex.providers.openai_codec import HONOURED, OpenAIChat
from narthex.providers.openai_rows import Row, body_around
from narthex.providers.presets import PRESETS, codecs
from narthex.providers.traits import ModelTraits
from narthex.providers.vllm import VllmChat

HI = '[{"role":"user","content":"Hi"}]'
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}


def known(before: str, after: str) -> ChatDialect:
    """A dialect that has read such requests."""
    dialect = ChatDialect()
    for text in "ab":
        dialect.decode(f'{before}[{{"role":"user","content":"{text}"}}]{after}'.encode(), profile="openai", strict=True)
    return dialect


def read(dialect: ChatDialect, body: bytes, *, profile: str = "openai", strict: bool = True) -> ChatRequest:
    request = dialect.decode(body, profile=profile, strict=strict).request
    assert isinstance(request, ChatRequest)
    return request


def told(request: ChatRequest) -> dict[str, Any]:
    """Everything of a request, to be compared."""
    all_ = {name: getattr(request, name) for name in ChatRequest.__struct_fields__}
    tools = request.tools
    bare = {name: bytes(raw) for name, raw in request.sent.items()}
    facts = None if tools is None else (tools.all_, tools.callable_, tools.required, tools.parallel)
    return all_ | {"sent": list(bare.items()), "fields": list(request.fields.items()), "tools": facts}


def outcome(dialect: ChatDialect, body: bytes) -> Any:
    try:
        return told(read(dialect, body))
    except RequestError as error:
        return error.message, error.param, error.code


AROUND = [
    ('{"model":"m","messages":', "}"),
    ('{"messages":', ',"model":"m","temperature":0.5,"max_tokens":7,"stop":"x","user":"u"}'),
    ('{"model": "m", "messages": ', ', "seed": 1, "logit_bias": {"7": 2}}'),
    (' {"stream":true,"messages":', ' ,"stream_options":{"include_usage":true},"model":"\\u0061"}\n'),
    ('{"model":"m","messages":', f',"tools":[{json.dumps(TOOL)}],"tool_choice":"auto","parallel_tool_calls":false}}'),
    ('{"model":"m","messages":', ',"response_format":{"type":"json_object"},"logprobs":true,"top_logprobs":2}'),
    ('{"model":"m","user":"the \\"messages\\": word","messages":', ',"n":2,"temperature":null}'),
    ('{"model":"ä","messages":', ',"max_completion_tokens":5,"reasoning_effort":"low"}'),
]
CONVERSATIONS = [
    HI,
    '[ {"content" : "\\u00e4 ö", "role":"system"},{"role":"assistant","content":"" } ]',
    '[{"role":"developer","content":"[]}"},{"role":"user","content":"\\"messages\\":[]"}]',
]


@pytest.mark.parametrize(("before", "after"), AROUND)
@pytest.mark.parametrize("written", CONVERSATIONS)
def test_reads_them_no_otherwise(before: str, after: str, written: str) -> None:
    body = f"{before}{written}{after}".encode()
    request = read(known(before, after), body)
    assert isinstance(request.sent, Sent)
    assert told(request) == told(read(ChatDialect(), body))


_ODD = [
    "[]", "null", "5", "[", "]", "", " ", '"[]"', "{}", "[5]", "[[]]", '[{"role":"user"}]',
    '[{"role":"user","content":5}]',
    '[{"role":"user","content":"a"}],"model":"other"', '[{"role":"user","content":"a"}],"messages":[]',
    '[{"role":"user","content":"a"}]}', '[{"role":"user","content":"a"}] ', ' [{"role":"user","content":"a"}]',
    '[{"role":"user","content":[{"type":"text","text":"a"}]}]', '[{"role":"user","content":"\\ud800"}]',
    '[{"role":"tool","content":"a","tool_call_id":"x"}]', '[{"role":"user","content":"a","name":"b"}]',
    '[{"role":"user","content":"a","x":99999999999999999999}]', f'[{{"role":"user","content":{"[" * 5000}',
]  # fmt: skip


@pytest.mark.parametrize(("before", "after"), AROUND)
@pytest.mark.parametrize("written", _ODD)
def test_what_is_no_such_conversation_is_read_as_ever(before: str, after: str, written: str) -> None:
    body = f"{before}{written}{after}".encode()
    assert outcome(known(before, after), body) == outcome(ChatDialect(), body)


@given(st.lists(st.sampled_from([*CONVERSATIONS, *_ODD[:-1], ",", '"messages":', '{"model":"m",', "}"]), max_size=5))
def test_whatever_comes(pieces: list[str]) -> None:
    dialect = known(*AROUND[0])
    for body in (f"{AROUND[0][0]}{''.join(pieces)}{AROUND[0][1]}".encode(), "".join(pieces).encode()):
        assert outcome(dialect, body) == outcome(ChatDialect(), body)


def test_broken_characters_are_found() -> None:
    before, after = AROUND[0]
    body = f'{before}[{{"role":"user","content":"'.encode() + b'\xff"}]' + after.encode()
    with pytest.raises(RequestError):
        known(before, after).decode(body, profile="openai", strict=True)


# --- what is remembered ----------------------------------------------------------------------------------------------


def test_only_what_came_twice() -> None:
    dialect = ChatDialect()
    body = f'{{"model":"m","messages":{HI}}}'.encode()
    assert [isinstance(read(dialect, body).sent, Sent) for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"model":"m","metadata":{"a":"b"},"messages":', "}"),
        ('{"model":"m","store":false,"messages":', "}"),
        ('{"model":"m","top_k":5,"messages":', "}"),
        (
            '{"model":"m","response_format":{"type":"json_schema","json_schema":{"name":"a","schema":{"messages":',
            "}}}}",
        ),
        ('{"model":"m","messages" :', "}"),
        (f'{{"model":"m","user":"{"u" * 40_000}","messages":', "}"),
        (f'{{"model":"m","tools":[{json.dumps(TOOL | {"cache_control": {"type": "ephemeral"}})}],"messages":', "}"),
    ],
)
def test_nothing_of_others(before: str, after: str) -> None:
    outer = before if "schema" not in before else f'{{"messages":{HI},{before[1:]}'
    assert not isinstance(read(known(outer, after), f"{outer}{HI}{after}".encode()).sent, Sent)


def test_messages_within_other_fields_are_not_taken_for_them() -> None:
    inner = '{"type":"json_schema","json_schema":{"name":"a","schema":{"messages":%s}}}'
    body = '{"model":"m","response_format":' + inner + ',"messages":%s}'
    dialect = ChatDialect()
    for _ in range(3):
        request = read(dialect, (body % (HI, HI)).encode())
    assert not isinstance(request.sent, Sent)
    other = (body % ('[{"role":"user","content":"No"}]', HI)).encode()
    assert told(read(dialect, other)) == told(read(ChatDialect(), other))


def test_unknown_names_are_ignored_or_refused_each_time() -> None:
    dialect = ChatDialect()
    body = f'{{"model":"m","messages":{HI},"unknown":1}}'.encode()
    for _ in range(4):
        assert dialect.decode(body, profile="openai", strict=False).ignored == ("unknown",)
        with pytest.raises(RequestError):
            dialect.decode(body, profile="openai", strict=True)


def test_not_for_a_profile_that_is_narrower() -> None:
    before, after = '{"model":"m","messages":', ',"n":1,"max_tokens":4}'
    dialect = known(before, after)
    body = f"{before}{HI}{after}".encode()
    for profile in ("thyris", "ionos", "oxy"):
        try:
            expected: Any = told(read(ChatDialect(), body, profile=profile))
        except RequestError as error:
            expected = error.message
        try:
            found: Any = told(read(dialect, body, profile=profile))
        except RequestError as error:
            found = error.message
        assert found == expected


def test_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alike, "_MOST", 2)
    monkeypatch.setattr(alike, "_MOST_SEEN", 2)
    dialect = ChatDialect()
    bodies = [f'{{"model":"m","messages":{HI},"seed":{number}}}'.encode() for number in range(3)]
    bodies.append(f'{{"messages":{HI},"model":"m"}}'.encode())
    for body in bodies:
        for _ in range(2):
            read(dialect, body)
    assert [isinstance(read(dialect, body).sent, Sent) for body in bodies] == [False, False, True, True]
    for body in bodies[:2]:  # and so is whatever begins otherwise than all that is left
        for _ in range(2):
            read(dialect, body)
    assert [isinstance(read(dialect, body).sent, Sent) for body in bodies] == [True, True, False, False]


def test_those_whose_messages_are_of_another_kind_stay() -> None:
    dialect = known('{"model":"m","messages":', "}")
    parts = b'{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"a"}]}]}'
    for _ in range(3):
        assert not isinstance(read(dialect, parts).sent, Sent)
    assert isinstance(read(dialect, f'{{"model":"m","messages":{HI}}}'.encode()).sent, Sent)


# --- what is sent on -------------------------------------------------------------------------------------------------

CODECS = [
    OpenAIChat(),
    OpenAIChat(Row(honoured=HONOURED, constant={"safe": True}, asks_usage=False, renamed={"seed": "random_seed"})),
    OpenAIChat(
        Row(honoured=HONOURED, continues="prefix", own_members=False), ModelTraits(developer=False, prefill=True)
    ),
    OpenAIChat(Row(honoured=HONOURED, whole=False), ModelTraits(max_tokens_field="max_completion_tokens")),
    VllmChat(ModelTraits(prefill=True)),
]


@pytest.mark.parametrize(("before", "after"), AROUND)
@pytest.mark.parametrize("written", CONVERSATIONS)
@pytest.mark.parametrize("codec", CODECS)
def test_servers_are_sent_the_same(codec: OpenAIChat, before: str, after: str, written: str) -> None:
    dialect = known(before, after)
    for each in (HI, written, HI):
        body = f"{before}{each}{after}".encode()
        expected = codec.build(read(ChatDialect(), body), model="theirs")
        for _ in range(2):
            assert codec.build(read(dialect, body), model="theirs") == expected


def sent_on(name: str, request: ChatRequest) -> Any:
    preset = PRESETS[name]
    try:
        return codecs(preset, preset.traits)["chat"].build(request, model="theirs"), None
    except NarthexError as error:
        return error.message, error.param


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if "chat" in preset.surfaces])
def test_every_server_is_sent_the_same(name: str) -> None:
    preset = PRESETS[name]
    codec = codecs(preset, preset.traits)["chat"]
    for before, after in AROUND:
        dialect = known(before, after)
        for written in (*CONVERSATIONS, HI):
            body = f"{before}{written}{after}".encode()
            expected = sent_on(name, read(ChatDialect(), body))
            try:
                found: Any = codec.build(read(dialect, body), model="theirs"), None
            except NarthexError as error:
                found = error.message, error.param
            assert found == expected


def test_an_answer_that_has_begun_is_gone_on_with() -> None:
    codec = OpenAIChat(Row(honoured=HONOURED, continues="prefix"), ModelTraits(prefill=True))
    before, after = AROUND[0]
    body = f"{before}{HI}{after}".encode()
    codec.build(read(dialect := known(before, after), body), model="theirs")
    begun = [msgspec.structs.replace(read(each, body), begun="We") for each in (dialect, ChatDialect())]
    assert codec.build(begun[0], model="theirs") == codec.build(begun[1], model="theirs")


def test_a_changed_copy_is_like_no_other() -> None:
    sent = Sent({"messages": msgspec.Raw(b"[]")})
    sent.alike = Alike()
    assert not isinstance({**sent, "n": msgspec.Raw(b"1")}, Sent)
    assert not isinstance(dict(sent), Sent)
    assert not isinstance(sent | {}, Sent)


def test_the_member_may_stand_anywhere() -> None:
    row = Row(honoured={}, asks_usage=False)
    for names in ("abm", "mab", "amb", "m"):
        members = {name: name for name in names}
        before, after = body_around("m", members, row, model="x", streams=False)
        assert json.loads(before + b'"m"' + after) == {**members, "model": "x"}
        assert list(json.loads(before + b'"m"' + after)) == [*names, "model"]
    before, after = body_around("m", {"model": "y", "m": 1}, row, model="x", streams=False)
    assert (before, after) == (b'{"model":"x","m":', b"}")
