"""What of a request is sent on: the caller's own bytes, but where servers would take them for something else."""

import json
from typing import Any

import pytest
from tests.unit.dialects.conftest import Decode

SAMPLED = {"n": 2.0, "seed": 1e3, "stop_token_ids": [1, 2.0], "logit_bias": {"5": -1.0, "6": 2}, "temperature": 1.0}
WHOLE = {"n": "2", "seed": "1000", "stop_token_ids": "[1,2]", "logit_bias": '{"5":-1,"6":2}', "temperature": "1.0"}


def sent(decode: Decode, surface: str, fields: dict[str, Any], profile: str = "openai") -> dict[str, str]:
    """What is sent on of these fields."""
    request = decode(surface, fields, profile=profile).request
    return {name: bytes(raw).decode() for name, raw in request.sent.items() if name in fields}


@pytest.mark.parametrize("surface", ["chat", "completions", "scale chat", "scale completions"])
def test_whole_numbers_are_sent_as_such(surface: str, decode: Decode) -> None:
    assert sent(decode, surface, SAMPLED | {"max_tokens": 9.0}) == WHOLE | {"max_tokens": "9"}


def test_so_they_are_where_a_profile_looks_at_all_fields(decode: Decode) -> None:
    fields = {"max_tokens": 9.0, "n": 1, "logit_bias": {}}
    assert sent(decode, "chat", fields, "thyris") == {"max_tokens": "9", "n": "1", "logit_bias": "{}"}


def test_and_where_requests_are_like_those_before(decode: Decode) -> None:
    for _ in range(4):
        assert sent(decode, "chat", {"n": 2.0, "user": "like those before"})["n"] == "2"


def test_what_was_whole_is_sent_as_it_came(decode: Decode) -> None:
    fields = {"logit_bias": {"5": 1}, "stop_token_ids": [1], "user": "a"}
    assert sent(decode, "chat", fields) == {name: json.dumps(value) for name, value in fields.items()}


def test_embeddings_and_images_too(decode: Decode) -> None:
    assert sent(decode, "embeddings", {"dimensions": 8.0}) == {"dimensions": "8"}
    assert sent(decode, "images", {"n": 2.0, "steps": 3.0}) == {"n": "2", "steps": "3"}
