"""Stored completions as the official client knows them."""

import base64
import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx2
import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletion
from tests.images import PNG
from tests.server_process import StartServer
from tests.stored_gateway import CALL, FINGERPRINT, SAID, TOKENS, USED, Kept, serving_kept

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = pytest.mark.patient

HELLO: list[Any] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What colour is it?"}]
PICTURE = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
TOOLS: list[Any] = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]


@pytest.fixture(scope="module")
def kept(start_server: StartServer) -> Iterator[Kept]:
    with serving_kept(start_server) as it:
        yield it


@pytest.fixture
def client(kept: Kept, request: pytest.FixtureRequest) -> Iterator[OpenAI]:
    """Of an account that no other test has."""
    with kept.client(request.node.name) as it:
        yield it


def stored(client: OpenAI, model: str = "plain", **fields: Any) -> ChatCompletion:
    return client.chat.completions.create(model=model, **({"messages": HELLO, "store": True} | fields))


def ids(client: OpenAI, **query: Any) -> list[str]:
    """Of all pages."""
    return [each.id for each in client.chat.completions.list(**query)]


def refused(error: openai.APIStatusError) -> tuple[int, str | None, str | None]:
    return error.status_code, error.code, error.param


# --- what is stored --------------------------------------------------------------------------------------------------


def test_it_is_the_answer_and_what_was_asked(client: OpenAI) -> None:
    answer = stored(client, metadata={"team": "a"}, temperature=0.5, seed=7, user="u-1")
    found = client.chat.completions.retrieve(answer.id)
    request_id = f"req_{answer.id.removeprefix('chatcmpl-')}"
    told = json.loads(answer.to_json())
    told["choices"][0]["message"] |= {"tool_calls": None, "function_call": None}
    assert json.loads(found.to_json()) == told | {
        "request_id": request_id,
        "tool_choice": None,
        "seed": 7,
        "top_p": 1.0,
        "temperature": 0.5,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "input_user": "u-1",
        "tools": None,
        "metadata": {"team": "a"},
        "response_format": None,
    }
    assert found.choices[0].message.content == SAID
    assert found.usage is not None
    assert found.usage.total_tokens == USED["total_tokens"]


def test_a_stream_is_stored_as_the_answer_that_it_was(client: OpenAI) -> None:
    chunks = list(stored(client, "flow", stream=True, metadata={"a": "b"}))  # type: ignore[call-overload]
    found = client.chat.completions.retrieve(chunks[0].id)
    assert (found.id, found.created, found.model) == (chunks[0].id, chunks[0].created, "flow")
    assert found.system_fingerprint == chunks[1].system_fingerprint == FINGERPRINT
    assert found.object == "chat.completion"
    assert [(each.message.content, each.finish_reason) for each in found.choices] == [(SAID, "stop")]
    assert found.usage is not None
    assert found.usage.prompt_tokens == USED["prompt_tokens"]
    assert found.metadata == {"a": "b"}  # type: ignore[attr-defined]


def test_choices_calls_refusals_and_log_probabilities_are_stored(client: OpenAI) -> None:
    answers = {
        "twice": stored(client, "twice", n=2),
        "caller": stored(client, "caller", tools=TOOLS, tool_choice="auto"),
        "denier": stored(client, "denier", response_format={"type": "json_object"}),
        "surely": stored(client, "surely", logprobs=True),
    }
    found = {name: client.chat.completions.retrieve(each.id) for name, each in answers.items()}
    assert [(each.index, each.message.content) for each in found["twice"].choices] == [
        (each.index, each.message.content) for each in answers["twice"].choices
    ]
    message = found["caller"].choices[0].message
    assert message.tool_calls is not None
    assert (message.content, json.loads(message.tool_calls[0].to_json())) == (None, CALL)
    asked: Any = found["caller"]
    assert (asked.tools, asked.tool_choice) == (TOOLS, "auto")
    assert (found["denier"].choices[0].message.refusal, found["denier"].choices[0].message.content) == (
        "I won't.",
        None,
    )
    asked = found["denier"]
    assert asked.response_format == {"type": "json_object"}
    logprobs = found["surely"].choices[0].logprobs
    assert logprobs is not None
    assert json.loads(logprobs.to_json())["content"] == TOKENS
    for name, answer in answers.items():
        assert found[name].choices[0].finish_reason == answer.choices[0].finish_reason


def test_nothing_else_is_stored(client: OpenAI, kept: Kept) -> None:
    for fields in ({"store": False}, {"store": None}, {"store": False, "metadata": {"a": "b"}}):
        stored(client, **fields)
    with pytest.raises(openai.APIError):
        list(stored(client, "breaks", stream=True))  # type: ignore[call-overload]
    assert ids(client) == []
    assert not client.chat.completions.list().has_more


def test_the_server_behind_hears_nothing_of_it(client: OpenAI, kept: Kept) -> None:
    stored(client, "other", metadata={"a": "b"})
    sent = json.loads(kept.upstreams["other"].requests[-1].body)
    assert not sent.keys() & {"store", "metadata"}


def test_metadata_that_are_not_stored_are_named(client: OpenAI) -> None:
    ask = client.chat.completions.with_raw_response.create
    answer = ask(model="plain", messages=HELLO, metadata={"a": "b"})
    assert answer.headers["x-narthex-ignored"] == "metadata"
    answer = ask(model="plain", messages=HELLO, metadata={"a": "b"}, store=True)
    assert "x-narthex-ignored" not in answer.headers


def test_null_metadata_are_none(client: OpenAI) -> None:
    answer = stored(client, metadata=None)
    found: Any = client.chat.completions.retrieve(answer.id)
    assert found.metadata == {}


# --- lists -----------------------------------------------------------------------------------------------------------


def test_pages_go_through_all_of_them_in_both_orders(client: OpenAI) -> None:
    made = [stored(client).id for _ in range(5)]
    assert ids(client) == made
    for limit in (1, 2, 5, 100):
        assert ids(client, limit=limit) == made
        assert ids(client, limit=limit, order="desc") == made[::-1]
    page = client.chat.completions.list(limit=2, after=made[0])
    assert [each.id for each in page.data] == made[1:3]
    assert page.has_more
    last = client.chat.completions.list(limit=2, after=made[2])
    assert [each.id for each in last.data] == made[3:]
    assert not last.has_more


def test_a_page_tells_its_ends(client: OpenAI) -> None:
    http = httpx2.Client(headers={"authorization": f"Bearer {client.api_key}"}, base_url=str(client.base_url))
    with closing(http):
        empty = http.get("chat/completions").json()
        assert empty == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
        made = [stored(client).id for _ in range(3)]
        page = http.get("chat/completions", params={"limit": 2}).json()
    assert (page["first_id"], page["last_id"], page["has_more"]) == (made[0], made[1], True)


def test_they_are_found_by_model_and_metadata(client: OpenAI) -> None:
    one = stored(client, metadata={"team": "a", "env": "prod"}).id
    two = stored(client, "other", metadata={"team": "b", "env": "prod"}).id
    three = stored(client, "other", metadata={"team": "a", "env": "test", "odd [key]=&": "ünï"}).id
    four = stored(client).id
    assert ids(client, model="plain") == [one, four]
    assert ids(client, model="other", order="desc") == [three, two]
    assert ids(client, metadata={"team": "a"}) == [one, three]
    assert ids(client, metadata={"team": "a", "env": "prod"}) == [one]
    assert ids(client, metadata={"env": "prod"}, model="other", limit=1) == [two]
    assert ids(client, metadata={"odd [key]=&": "ünï"}) == [three]
    assert ids(client, metadata={"team": "a", "env": "none"}) == []
    assert ids(client, model="nobody") == []


def test_deleting_while_paging_misses_none(client: OpenAI) -> None:
    made = [stored(client).id for _ in range(5)]
    seen = []
    for each in client.chat.completions.list(limit=2):
        seen.append(each.id)
        assert client.chat.completions.delete(each.id).deleted
    assert seen == made
    assert ids(client) == []


# --- one of them -----------------------------------------------------------------------------------------------------


def test_an_update_replaces_all_metadata(client: OpenAI) -> None:
    made = stored(client, metadata={"a": "1", "b": "2"})
    updated: Any = client.chat.completions.update(made.id, metadata={"b": "3"})
    assert (updated.id, updated.metadata) == (made.id, {"b": "3"})
    assert ids(client, metadata={"a": "1"}) == []
    assert ids(client, metadata={"b": "3"}) == [made.id]
    updated = client.chat.completions.update(made.id, metadata=None)
    assert updated.metadata == {}
    assert updated == client.chat.completions.retrieve(made.id)
    assert ids(client, metadata={"b": "3"}) == []


def test_deleted_is_gone(client: OpenAI) -> None:
    made, stays = stored(client, metadata={"a": "1"}).id, stored(client).id
    told = client.chat.completions.delete(made)
    assert (told.id, told.object, told.deleted) == (made, "chat.completion.deleted", True)
    for call in (
        lambda: client.chat.completions.delete(made),
        lambda: client.chat.completions.retrieve(made),
        lambda: client.chat.completions.update(made, metadata={}),
        lambda: client.chat.completions.messages.list(made),
    ):
        with pytest.raises(openai.NotFoundError) as error:
            call()
        assert refused(error.value) == (404, "not_found", "completion_id")
    assert ids(client) == [stays]
    assert ids(client, metadata={"a": "1"}) == []


def test_messages_are_what_was_asked(client: OpenAI) -> None:
    picture = {"type": "image_url", "image_url": {"url": PICTURE, "detail": "auto"}}
    parts = [{"type": "text", "text": "Look:"}, picture]
    messages = [*HELLO, {"role": "user", "name": "ann", "content": parts}]
    made = stored(client, messages=messages).id
    listed = list(client.chat.completions.messages.list(made))
    assert [each.id for each in listed] == [f"{made}-{index}" for index in range(3)]
    assert [(each.role, each.content) for each in listed] == [
        ("system", "Be brief."),
        ("user", "What colour is it?"),
        ("user", None),
    ]
    assert [json.loads(part.to_json()) for part in listed[2].content_parts or []] == parts
    last: Any = listed[2]
    assert last.name == "ann"
    assert listed[0].content_parts is None
    for limit in (1, 2, 100):
        paged = [each.id for each in client.chat.completions.messages.list(made, limit=limit)]
        assert paged == [each.id for each in listed]
    backwards = [each.id for each in client.chat.completions.messages.list(made, order="desc", limit=2)]
    assert backwards == [each.id for each in reversed(listed)]


# --- who may, and what is wrong --------------------------------------------------------------------------------------


def test_accounts_see_nothing_of_each_other(client: OpenAI, kept: Kept) -> None:
    made = stored(client, metadata={"a": "1"}).id
    with kept.client("somebody else") as other:
        assert ids(other) == ids(other, metadata={"a": "1"}) == []
        for call in (
            lambda: other.chat.completions.retrieve(made),
            lambda: other.chat.completions.update(made, metadata={"a": "2"}),
            lambda: other.chat.completions.delete(made),
            lambda: other.chat.completions.messages.list(made),
            lambda: other.chat.completions.list(after=made),
        ):
            with pytest.raises(openai.NotFoundError):
                call()
    assert client.chat.completions.retrieve(made).id == made
    with kept.client(client.chat.completions.retrieve(made).model) as third:
        assert ids(third) == []


def test_to_store_needs_only_chat_and_to_read_its_own_grant(kept: Kept) -> None:
    with kept.client("granted", surfaces=("chat",)) as writer, kept.client("granted", surfaces=("stored",)) as reader:
        made = stored(writer).id
        for call in (
            writer.chat.completions.list,
            lambda: writer.chat.completions.retrieve(made),
            lambda: writer.chat.completions.update(made, metadata={}),
            lambda: writer.chat.completions.delete(made),
            lambda: writer.chat.completions.messages.list(made),
            lambda: stored(reader),
        ):
            with pytest.raises(openai.PermissionDeniedError) as error:
                call()
            assert refused(error.value) == (403, "insufficient_permissions", None)
        assert ids(reader) == [made]


QUERIES = [
    ({"limit": 0}, "integer_below_min_value", "limit"),
    ({"limit": -1}, "integer_below_min_value", "limit"),
    ({"limit": 101}, "integer_above_max_value", "limit"),
    ({"limit": "9" * 30}, "integer_above_max_value", "limit"),
    ({"limit": "x"}, "invalid_type", "limit"),
    ({"limit": ""}, "invalid_type", "limit"),
    ({"order": "up"}, "invalid_value", "order"),
]


@pytest.mark.parametrize(("query", "code", "param"), QUERIES)
def test_queries_that_mean_nothing(client: OpenAI, query: Any, code: str, param: str) -> None:
    made = stored(client).id
    for call in (
        lambda: client.chat.completions.list(extra_query=query),
        lambda: client.chat.completions.messages.list(made, extra_query=query),
    ):
        with pytest.raises(openai.BadRequestError) as error:
            call()
        assert refused(error.value) == (400, code, param)


def test_queries_of_lists_that_mean_nothing(client: OpenAI) -> None:
    for query, code, param in (
        ({"metadata": {f"k{i}": "v" for i in range(17)}}, "object_above_max_properties", "metadata"),
        ({"metadata": {"k" * 65: "v"}}, "string_above_max_length", "metadata"),
        ({"metadata": {"k": "v" * 513}}, "string_above_max_length", "metadata.k"),
        ({"extra_query": {"metadata": "a"}}, "unknown_parameter", "metadata"),
        ({"extra_query": {"models": "a"}}, "unknown_parameter", "models"),
    ):
        with pytest.raises(openai.BadRequestError) as error:
            client.chat.completions.list(**query)  # type: ignore[arg-type]
        assert refused(error.value) == (400, code, param)
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.list(after="chatcmpl-x")
    assert refused(unknown.value) == (404, "not_found", "after")
    made = stored(client).id
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.messages.list(made, after=f"{made}-9")
    assert refused(unknown.value) == (404, "not_found", "after")


UPDATES: list[tuple[Any, str, str]] = [
    ({}, "missing_required_parameter", "metadata"),
    ({"metadata": "a"}, "invalid_type", "metadata"),
    ({"metadata": {"a": 1}}, "invalid_type", "metadata.a"),
    ({"metadata": {f"k{i}": "v" for i in range(17)}}, "object_above_max_properties", "metadata"),
    ({"metadata": {"k" * 65: "v"}}, "string_above_max_length", "metadata"),
    ({"metadata": {"k": "v" * 513}}, "string_above_max_length", "metadata.k"),
    ({"metadata": {}, "model": "plain"}, "unknown_parameter", "model"),
]


@pytest.mark.parametrize(("body", "code", "param"), UPDATES)
def test_updates_that_are_refused(client: OpenAI, body: Any, code: str, param: str) -> None:
    made = stored(client, metadata={"a": "1"})
    with pytest.raises(openai.BadRequestError) as error:
        client.post(f"/chat/completions/{made.id}", body=body, cast_to=ChatCompletion)
    assert refused(error.value) == (400, code, param)
    found: Any = client.chat.completions.retrieve(made.id)
    assert found.metadata == {"a": "1"}


def test_the_limits_of_metadata_are_kept(client: OpenAI) -> None:
    most = {f"{i:02}".ljust(64, "k"): "v" * 512 for i in range(16)}
    made = stored(client, metadata=most)
    found: Any = client.chat.completions.retrieve(made.id)
    assert found.metadata == most
    assert ids(client, metadata=most) == [made.id]
    for fields, code in (
        ({f"k{i}": "v" for i in range(17)}, "object_above_max_properties"),
        ({"k" * 65: "v"}, "string_above_max_length"),
        ({"k": "v" * 513}, "string_above_max_length"),
    ):
        with pytest.raises(openai.BadRequestError) as error:
            stored(client, metadata=fields)
        assert error.value.code == code


def test_a_lenient_key_is_told_what_was_ignored(kept: Kept) -> None:
    with kept.client("lenient", strict=False) as client:
        made = stored(client)
        listed = client.chat.completions.with_raw_response.list(extra_query={"unheard": "of"})
        assert listed.headers["x-narthex-ignored"] == "unheard"
        updated = client.chat.completions.with_raw_response.update(made.id, metadata={}, extra_body={"unheard": "of"})
        assert updated.headers["x-narthex-ignored"] == "unheard"
