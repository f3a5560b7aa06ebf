"""A collection made anew beside itself: with another model, or cut otherwise, from what is stored of each document.

Rules: the former file serves until the new one holds just what it holds; what is written meanwhile is copied as well,
and what is deleted goes there too.
"""

import hashlib
from collections.abc import Iterable

import apsw
import msgspec

from narthex.core.documents import Chunk, Chunking, Document, NewDocument
from narthex.core.errors import InvalidRequest, UnsupportedMediaType
from narthex.retrieval.extract.client import Extractor
from narthex.retrieval.ingest import Embed, Ingestion, Notes, Tell
from narthex.storage.sqlite.documents import Contents, SqliteDocuments


class Manner(msgspec.Struct, frozen=True, kw_only=True):
    """How documents are made anew. `mode` and `size` None: each as it was; `largest`: what the model takes.

    `keeps_vectors`: the model is the same, so the vectors of chunks that stay are good.
    """

    mode: str | None = None
    size: int | None = None
    largest: int
    keeps_vectors: bool = False

    def of(self, former: Chunking) -> Chunking:
        """How a document is cut that was cut this way."""
        return msgspec.convert(
            {"mode": self.mode or former.mode, "size": min(self.size or former.size, self.largest)}, Chunking
        )


class Mirror:
    """Makes `new` hold what `old` holds."""

    def __init__(
        self,
        old: SqliteDocuments,
        new: SqliteDocuments,
        manner: Manner,
        *,
        job_id: str,
        embed: Embed,
        extractor: Extractor,
        tell: Tell,
    ) -> None:
        self._old = old
        self._new = new
        self._manner = manner
        self._job_id = job_id
        self._embed = embed
        self._extractor = extractor
        self._tell = tell
        self._done = self._total = 0

    async def mirror(self) -> bytes:
        """Return once both held the same; the `fingerprint` of what that was.

        Raises:
            NarthexError: what the model or a store ended with.
        """
        while True:
            former = await self._old.list()
            made = {document.key: document for document in await self._new.list()}
            missing = [document for document in former if not self._is_made(document, made.get(document.key))]
            gone = made.keys() - {document.key for document in former}
            if not missing and not gone:
                return fingerprint((document.id, document.description) for document in former)
            for key in gone:
                await self._new.delete(key)
            self._total = sum(document.chunks for document in former)
            self._done = self._total - sum(document.chunks for document in missing)
            for document in missing:
                await self._copy(document, made.get(document.key))
                self._done += document.chunks

    def _is_made(self, document: Document, made: Document | None) -> bool:
        return self._is_same(document, made) and made is not None and made.description == document.description

    def _is_same(self, document: Document, made: Document | None) -> bool:
        return (
            made is not None
            and (made.sha256, made.name) == (document.sha256, document.name)
            and made.chunking == self._manner.of(document.chunking)
        )

    async def _copy(self, document: Document, made: Document | None) -> None:
        if self._is_same(document, made):
            await self._new.describe(document.key, document.description)
            return
        contents = await self._old.contents(document.key)
        if contents is None:  # deleted since: the next round sees it
            return
        now = contents.document
        chunking = self._manner.of(now.chunking)
        if chunking == now.chunking:
            text, chunks = contents.text, contents.chunks
        else:
            text, chunks = await self._cut(contents, chunking)
        new = NewDocument(
            key=now.key,
            text=text,
            sha256=now.sha256,
            chunking=chunking,
            description=now.description,
            media_type=now.media_type,
            name=now.name,
            original=contents.original,
        )
        if self._manner.keeps_vectors and chunks == contents.chunks:
            await self._new.put(new, chunks, contents.vectors, tokens=now.tokens)
            self._tell(self._done + now.chunks, self._total, "copying")
        else:
            await self._ingestion(now).text(new, chunks)

    def _ingestion(self, document: Document) -> Ingestion:
        def told(done: int, total: int, message: str) -> None:
            share = document.chunks * done // total if total else 0
            self._tell(self._done + share, self._total, message)

        return Ingestion(self._new, f"{self._job_id}:{document.id}", embed=self._embed, notes=Notes(), tell=told)

    async def _cut(self, contents: Contents, chunking: Chunking) -> tuple[str, tuple[Chunk, ...]]:
        """From the file itself, where it is there and can still be read; else from its text."""
        document = contents.document
        if contents.original is not None:
            try:
                extraction = await self._extractor.extract(
                    contents.original, name=document.name, media_type=document.media_type, chunking=chunking
                )
            except (InvalidRequest, UnsupportedMediaType):
                pass
            else:
                return extraction.text, extraction.chunks
        kind = "markdown" if chunking.mode == "structure" else "text"
        chunks = await self._extractor.chunk(contents.text, chunking, kind)  # type: ignore[arg-type]
        return contents.text, tuple(chunks)


def fingerprint(documents: Iterable[tuple[str, str]]) -> bytes:
    """By which two states of a collection are told apart: of each document's id, which is new with every version, and
    its description.
    """
    digest = hashlib.sha256()
    for pair in sorted(documents):
        digest.update(msgspec.msgpack.encode(pair))
    return digest.digest()


def fingerprint_now(connection: apsw.Connection) -> bytes:
    """Of the state that this transaction sees."""
    rows = connection.execute("select uuid, description from document").fetchall()
    return fingerprint((str(id_), str(description)) for id_, description in rows)
