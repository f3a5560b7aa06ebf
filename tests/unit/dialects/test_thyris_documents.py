import json

import pytest

from narthex.core.documents import Chunk, Chunking, Collection, Document, EmbeddingModel, Hit, Scores
from narthex.core.errors import InvalidRequest, RequestTooLarge
from narthex.dialects.thyris_documents import (
    citation_object,
    collection_body,
    collection_object,
    document_body,
    document_object,
    search_body,
)

MIB = 1024 * 1024


def body(**fields):
    return json.dumps(fields).encode()


def test_collections():
    read = collection_body(body(model="m"), strict=True)
    assert (read.model, read.description, read.retrieval, read.weight, read.ignored) == ("m", "", None, None, ())
    read = collection_body(body(model="m", description="d", retrieval="vector", weight=1, foo=2), strict=False)
    assert (read.description, read.retrieval, read.weight, read.ignored) == ("d", "vector", 1.0, ("foo",))


def test_documents():
    read = document_body(body(content="c"), strict=True)
    assert (read.content, read.description, read.chunk_size, read.structure) == ("c", "", None, False)
    read = document_body(body(content="c", description="d", chunkSize=3, mode="structure"), strict=True)
    assert (read.description, read.chunk_size, read.structure) == ("d", 3, True)


@pytest.mark.parametrize("text", ["a" * MIB, "ü" * (MIB // 2)])
def test_content_up_to_a_mebibyte(text):
    assert document_body(json.dumps({"content": text}).encode(), strict=True).content == text
    with pytest.raises(RequestTooLarge):
        document_body(json.dumps({"content": text + "a"}).encode(), strict=True)


def test_searches():
    read = search_body(body(query="q"), strict=True)
    assert (read.text, read.n, read.documents, read.explain) == ("q", 5, None, False)
    read = search_body(body(input="q", n_documents=7, documents=["a"], per_document=2, explain=True), strict=True)
    assert (read.text, read.n, read.documents, read.per_document, read.explain) == ("q", 7, ("a",), 2, True)
    for twice in ({"query": "a", "input": "b"}, {"query": "a", "n": 1, "n_documents": 1}, {}):
        with pytest.raises(InvalidRequest):
            search_body(body(**twice), strict=True)


def test_objects():
    model = EmbeddingModel(name="m", dim=2)
    collection = Collection(id="i", account_id="a", key="k", model=model, created_ms=0)
    assert collection_object(collection) == {
        "id": "i",
        "key": "k",
        "model": "m",
        "description": "",
        "retrieval": "hybrid",
        "weight": 0.5,
    }
    document = Document(
        id="i",
        key="k",
        description="d",
        media_type="text/plain",
        name="",
        sha256=b"\x01\x02",
        chunking=Chunking(size=3),
        characters=4,
        chunks=2,
        tokens=5,
        created_ms=1_697_365_800_123,
    )
    told = document_object(document)
    assert (told["createdAt"], told["name"], told["sha256"]) == ("2023-10-15T10:30:00Z", None, "0102")
    hit = Hit(document_key="k", index=1, chunk=Chunk(start=0, stop=1, text="x"), scores=Scores(fused=0.5))
    assert "number" not in citation_object(hit)
    assert citation_object(hit)["page"] is None
