import pytest

from narthex.core.documents import (
    Chunk,
    Collection,
    EmbeddingModel,
    is_key,
    max_chunk_size,
    model_changed,
    no_collection,
)


@pytest.mark.parametrize(
    ("key", "is_one"),
    [
        *((key, True) for key in ("a", "a" * 32, "中" * 32, " ", "\xa0", "..", "🙂")),
        *((key, False) for key in ("", "a" * 33, "a/b", "a\n", "\x7f", "\x80", "a\x9f", "\x00")),
    ],
)
def test_what_can_be_a_key(key, is_one):
    assert is_key(key, longest=32) is is_one


@pytest.mark.parametrize(("tokens", "size"), [(512, 1536), (0, 1536), (256, 768), (8192, 4096)])
def test_how_large_a_chunk_may_be(tokens, size):
    assert max_chunk_size(EmbeddingModel(name="m", dim=1, max_tokens=tokens)) == size


def test_what_is_indexed_of_a_chunk():
    assert Chunk(start=0, stop=1, text="a").indexed == "a"
    assert Chunk(start=0, stop=1, text="a", context="Guide").indexed == "Guide\na"


def test_errors_name_what_they_are_about():
    assert no_collection("x" * 200).message == f"There is no collection '{'x' * 100}'."
    model = EmbeddingModel(name="m", dim=1)
    changed = model_changed(Collection(id="i", account_id="a", key="k", model=model, created_ms=0))
    assert (changed.status, changed.code) == (409, "model_changed")
    assert "rebuild" in changed.message


def test_models_agree_by_digest_where_both_are_known_else_by_name():
    known = EmbeddingModel(name="a", dim=4, digest="x")
    assert known.agrees_with(EmbeddingModel(name="b", dim=4, digest="x"))
    assert not known.agrees_with(EmbeddingModel(name="a", dim=4, digest="y"))
    assert known.agrees_with(EmbeddingModel(name="a", dim=4))
    assert not known.agrees_with(EmbeddingModel(name="b", dim=4))
    assert not known.agrees_with(EmbeddingModel(name="a", dim=5))
