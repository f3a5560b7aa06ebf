"""From chunks to a stored document: with models that fail, slow ones, and processes that end in between."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from narthex.core.documents import Chunk, Chunking, Collection, Embedded, EmbeddingModel, NewDocument, Query
from narthex.core.errors import EngineUnavailable, InvalidRequest, NotFound, UpstreamCredentials
from narthex.retrieval import ingest
from narthex.retrieval.ingest import AHEAD, LARGEST_BATCH, Ingestion, Notes, notes_of
from narthex.retrieval.opened import OpenCollections, OpenDocuments

pytestmark = pytest.mark.anyio

MODEL = EmbeddingModel(name="m", dim=2)
COLLECTION = Collection(id="c1", account_id="a", key="house", model=MODEL, created_ms=1)


class Model:
    """Makes a vector of each text; `faults` come first, one for each call."""

    def __init__(self, *faults: Exception) -> None:
        self.faults = list(faults)
        self.asked: Counter[str] = Counter()
        self.running = self.most = 0
        self.hang_after: int | None = None

    async def embed(self, texts: Sequence[str]) -> Embedded:
        if self.hang_after is not None and len(self.asked) >= self.hang_after:
            await asyncio.Event().wait()
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        if self.faults:
            raise self.faults.pop(0)
        self.asked.update(texts)
        return Embedded(vectors=tuple(b"\0\0\x80?\0\0\0\0" for _ in texts), tokens=3 * len(texts), cut=(0,))


def given(count: int) -> tuple[NewDocument, list[Chunk]]:
    pieces = [f"Piece {number:05}." for number in range(count)]
    text = "".join(pieces)
    chunks = [Chunk(start=12 * at, stop=12 * at + 12, text=piece) for at, piece in enumerate(pieces)]
    assert all(text[chunk.start : chunk.stop] == chunk.text for chunk in chunks)
    return NewDocument(key="a", text=text, sha256=b"x" * 32, chunking=Chunking(size=12)), chunks


@pytest.fixture
async def documents(tmp_path: Path, anyio_backend: str) -> AsyncIterator[OpenDocuments]:
    stores = OpenCollections(tmp_path / "collections", clock=lambda: 7)
    async with stores.open(COLLECTION) as opened:
        yield opened
    await stores.aclose()


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Nobody waits; the pauses are noted."""
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def hurried(seconds: float) -> None:
        if seconds:
            pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr(ingest.asyncio, "sleep", hurried)
    return pauses


def ingestion(documents: OpenDocuments, model: Model, notes: Notes, told: list | None = None) -> Ingestion:
    tell = (lambda *values: told.append(values)) if told is not None else (lambda *_: None)
    return Ingestion(documents, "job", embed=model.embed, notes=notes, tell=tell)


async def test_every_chunk_gets_its_vector_and_then_the_document_is_there(documents):
    new, chunks = given(2500)
    model, notes, told = Model(), Notes(), []
    made = await ingestion(documents, model, notes, told).text(new, chunks)
    assert (made.chunks, made.tokens) == (2500, 7500)
    assert set(model.asked.values()) == {1}
    assert model.most == AHEAD
    assert await documents.chunks("a") == tuple(chunks)
    dones = [done for done, _, _ in told]
    assert dones == sorted(dones)
    assert told[-1][:2] == (2500, 2500)
    assert await documents.staged_jobs() == ()


async def test_what_the_model_read_in_part_is_told_once(documents):
    new, chunks = given(3)
    notes = Notes(warnings=["Guessed the charset."])
    await ingestion(documents, Model(), notes).text(new, chunks)
    first, second = notes.all_warnings()
    assert first == "Guessed the charset."
    assert second.startswith("1 of 3 chunks are longer")
    assert Notes(warnings=["w"]).all_warnings() == ("w",)
    assert notes_of({"notes": {"total": 3, "tokens": 9}}) == Notes(total=3, tokens=9)
    assert notes_of({}) == Notes()


async def test_a_fault_that_passes_is_waited_for(documents, hurried):
    new, chunks = given(10)
    faults = (EngineUnavailable(retry_after_s=7), EngineUnavailable(), EngineUnavailable(retry_after_s=500))
    await ingestion(documents, Model(*faults), Notes()).text(new, chunks)
    assert hurried == [7, 2.0, 30.0]


async def test_a_fault_that_stays_ends_it_and_nothing_is_seen(documents):
    """Complaint C23: what was there before stays."""
    new, chunks = given(200)
    with pytest.raises(EngineUnavailable):
        await ingestion(documents, Model(*(EngineUnavailable() for _ in range(100))), Notes()).text(new, chunks)
    with pytest.raises(UpstreamCredentials):
        await ingestion(documents, Model(UpstreamCredentials()), Notes()).text(new, chunks)
    assert await documents.list() == ()
    assert (await documents.search(Query(n=5, text="piece"))).hits == ()


async def test_whoever_goes_on_embeds_only_what_lacks_its_vector(documents):
    """Complaint C33."""
    new, chunks = given(600)
    model, notes = Model(), Notes()
    model.hang_after = 300
    told: list = []
    first = asyncio.ensure_future(ingestion(documents, model, notes, told).text(new, chunks))
    while not told or told[-1][0] < 200:
        await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    model.hang_after = None
    made = await ingestion(documents, model, notes).text(new, chunks)
    assert made.chunks == 600
    twice = sum(count - 1 for count in model.asked.values())
    assert twice <= (AHEAD + 1) * LARGEST_BATCH


async def test_a_document_that_is_taken_away_meanwhile_ends_it(documents):
    new, chunks = given(100)
    model = Model()

    async def embed(texts: Sequence[str]) -> Embedded:
        await documents.stage_drop("job")
        return await model.embed(texts)

    with pytest.raises(NotFound):
        await Ingestion(documents, "job", embed=embed, notes=Notes(), tell=lambda *_: None).text(new, chunks)


async def test_an_upload_that_is_not_there_any_more_is_told(documents, tmp_path):
    upload = ingest.Upload(key="a", name="a.txt", chunking=Chunking(size=10), sha256="00" * 32)
    with pytest.raises(InvalidRequest, match="upload it again"):
        await ingestion(documents, Model(), Notes()).file(tmp_path / "gone", upload, extractor=None)  # type: ignore[arg-type]


def test_batches_grow_with_quick_models_and_shrink_with_slow_ones():
    assert ingest._next_size(16, 0.1) == 32
    assert ingest._next_size(LARGEST_BATCH, 0.1) == LARGEST_BATCH
    assert ingest._next_size(16, 2.0) == 16
    assert ingest._next_size(16, 20.0) == 8
    assert ingest._next_size(1, 20.0) == 1
