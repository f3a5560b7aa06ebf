"""`GET /api/models`: every model with the limits that the other operations then keep."""

import pytest
from tests.native_calls import FAR_VECTORS, TELLER, WRITER, Json
from tests.server_process import EMBEDDING_MODEL

pytest_plugins = ["tests.models_fixture", "tests.server_fixture", "tests.native_fixture"]
pytestmark = pytest.mark.patient

EVERY = {"id", "object", "created", "owned_by", "type"}
KINDS = {
    "chat": EVERY | {"contextSize", "maxInputCharacters", "vision"},
    "embedding": EVERY | {"dimensions", "maxDocumentSize", "maxChunkSize", "maxChunkCount", "maxChunkTokens"},
}
CREATED_AT_LEAST = 1_577_836_800
"""2020: `created` counts seconds, not milliseconds."""


def listed(api) -> dict[str, Json]:
    answer = api.get("/api/models")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.json()["object"] == "list"
    assert set(answer.json()) == {"object", "data"}
    return {each["id"]: each for each in answer.json()["data"]}


def test_each_kind_of_model_has_its_fields(api):
    rows = listed(api)
    assert set(rows) == {WRITER, TELLER, FAR_VECTORS, EMBEDDING_MODEL}
    assert {row["type"] for row in rows.values()} == set(KINDS)
    for row in rows.values():
        assert set(row) == KINDS[row["type"]]
        assert row["object"] == "model"
        assert CREATED_AT_LEAST < row["created"] < 100 * CREATED_AT_LEAST
        assert isinstance(row["owned_by"], str)
    assert {rows[WRITER]["type"], rows[TELLER]["type"]} == {"chat"}
    assert {rows[FAR_VECTORS]["type"], rows[EMBEDDING_MODEL]["type"]} == {"embedding"}


def test_the_embedded_model_tells_its_limits(api):
    row = listed(api)[EMBEDDING_MODEL]
    assert (row["dimensions"], row["maxDocumentSize"]) == (384, 1_048_576)
    for name in ("maxChunkSize", "maxChunkCount", "maxChunkTokens"):
        assert type(row[name]) is int
        assert row[name] > 0
    assert row["maxChunkSize"] * row["maxChunkCount"] >= row["maxDocumentSize"]


def test_a_model_that_sees_says_which_images(api):
    vision = listed(api)[WRITER]["vision"]
    assert {"image/jpeg", "image/png"} <= set(vision["formats"])
    assert type(vision["maxBytes"]) is int
    assert vision["maxBytes"] > 0
