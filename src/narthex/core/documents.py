"""Collections, documents, and what is found in them. Source: contract sections 3.5 to 3.7 and 11; ARCHITECTURE D6.

Rules: what is stored belongs to one account, and no search crosses collections; offsets are code points of the stored
text, so that `text[start:stop]` is what a citation quotes; the vectors of two models never mix.
"""

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from narthex.core.errors import Conflict, NotFound
from narthex.core.keys import Principal

Retrieval = Literal["hybrid", "vector", "keyword"]
RETRIEVALS: tuple[Retrieval, ...] = ("hybrid", "vector", "keyword")

MAX_COLLECTION_KEY = 32
MAX_DOCUMENT_KEY = 64
"""Code points, as `MAX_COLLECTION_KEY`."""
MAX_DESCRIPTION = 256
MAX_CONTENT_BYTES = 1_048_576
"""Of a document given as text, in UTF-8."""


def is_key(key: str, *, longest: int) -> bool:
    """Whether this can be the key of a collection or document: no control character, no slash, not empty."""
    return 0 < len(key) <= longest and "/" not in key and not any(map(is_control, key))


def is_control(char: str) -> bool:
    """Whether this is one of Unicode's 65 control characters."""
    return ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0


class EmbeddingModel(msgspec.Struct, frozen=True, kw_only=True):
    """What a collection's vectors were made with. Two models with one `digest` ("" where nobody tells) give the same.

    `max_tokens`: of one text, marks included; 0 where nobody tells.
    """

    name: str
    dim: int
    digest: str = ""
    max_tokens: int = 0

    def agrees_with(self, other: "EmbeddingModel") -> bool:
        """Whether both give the same vectors: by their digests where both are known, else by their names."""
        same = self.digest == other.digest if self.digest and other.digest else self.name == other.name
        return same and self.dim == other.dim


MAX_CHUNKS = 1024
"""Of one document given as text."""
_LARGEST_CHUNK = 4096
_USUAL_TOKENS = 512


def max_chunk_size(model: EmbeddingModel) -> int:
    """The most code points of a chunk, and the size where a caller names none: what nearly always fits the model."""
    return min(3 * (model.max_tokens or _USUAL_TOKENS), _LARGEST_CHUNK)


class Chunking(msgspec.Struct, frozen=True, kw_only=True):
    """How a document is cut. `windows`: runs of `size` code points, as they come (contract 3.6). `structure`: at
    headings, paragraphs and sentences, at most `size` code points.
    """

    mode: Literal["windows", "structure"] = "windows"
    size: int


class Collection(msgspec.Struct, frozen=True, kw_only=True):
    """A set of documents of one account, and how it is searched.

    `weight`: the share of the vectors' score in hybrid search, 0 to 1. `generation` tells which of its files holds it:
    a rebuild with another model or chunking makes the next one and switches over.
    """

    id: str
    account_id: str
    key: str
    model: EmbeddingModel
    description: str = ""
    retrieval: Retrieval = "hybrid"
    weight: float = 0.5
    generation: int = 1
    created_ms: int


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of a document's text: `text == document_text[start:stop]`.

    `context` is read with the text by the embedding model and the keyword index (the headings above it, a table's
    header) and is no part of it. `page` counts from 1; None where there are no pages.
    """

    start: int
    stop: int
    text: str
    context: str = ""
    page: int | None = None

    @property
    def indexed(self) -> str:
        """What is embedded and searched."""
        return f"{self.context}\n{self.text}" if self.context else self.text


class NewDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A document as it is stored. `original`: the bytes that `text` was drawn from, kept to be read again; None where
    the text itself was given. `sha256`: of those bytes, or of the text in UTF-8.
    """

    key: str
    text: str
    sha256: bytes
    chunking: Chunking
    description: str = ""
    media_type: str = "text/plain"
    name: str = ""
    """The file's own name, if it was one."""
    original: bytes | None = None


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A stored document without its text. `id` is a new UUID with every version."""

    id: str
    key: str
    description: str
    media_type: str
    name: str
    sha256: bytes
    chunking: Chunking
    characters: int
    chunks: int
    tokens: int
    """That were embedded for it."""
    created_ms: int


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """One search. `vector`: little-endian float32 of unit length; None for keywords only. `text`: the words; None for
    vectors only. `n`: chunks wanted.

    `documents`: keys of the only documents to search; None: all. `per_document`: the most chunks of one document; None:
    no limit.
    """

    n: int
    vector: bytes | None = None
    text: str | None = None
    weight: float = 0.5
    documents: tuple[str, ...] | None = None
    per_document: int | None = None


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """Why a chunk was found: its cosine, its BM25 score (higher is better), and the two put together (0 to 1).

    None: that search did not find it.
    """

    vector: float | None = None
    bm25: float | None = None
    fused: float


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """A chunk that was found. `index` counts the document's chunks from 0."""

    document_key: str
    index: int
    chunk: Chunk
    scores: Scores


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """A chunk that was a candidate and is not in the answer."""

    document_key: str
    index: int
    scores: Scores
    why: Literal["rank", "per_document", "token_budget"]


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a search found, best first, and the next that were left out."""

    hits: tuple[Hit, ...]
    left: tuple[Left, ...] = ()
    words: tuple[str, ...] = ()
    """The words that were looked for, in the index's own form; rarest first."""


class Embedded(msgspec.Struct, frozen=True, kw_only=True):
    """Vectors of some texts, in their order: little-endian float32 of unit length.

    `cut`: indices of texts that are longer than the model reads; their vectors are of their beginnings.
    """

    vectors: tuple[bytes, ...]
    tokens: int
    cut: tuple[int, ...] = ()


class Embedding(Protocol):
    """Whatever makes vectors of texts, by the public name of a model.

    Every method raises `ModelNotFound` where there is no such model or `principal` may not use it, and what the model's
    server raises.
    """

    async def identify(self, model: str, *, principal: Principal) -> EmbeddingModel:
        """What makes the vectors now. Raises `InvalidRequest` for a model that makes none."""
        ...

    async def embed(self, model: str, texts: Sequence[str], *, principal: Principal) -> Embedded:
        """The vectors of any number of texts. Cancelling drops the work."""
        ...


def no_collection(key: str) -> NotFound:
    """The error for a key of no collection, or of one that is not for this caller: both read alike."""
    return NotFound(f"There is no collection '{key[:100]}'.", param="collectionKey")


def model_changed(collection: Collection) -> Conflict:
    """The error for a collection whose vectors another model made than the one that bears its name now."""
    message = (
        f"The collection '{collection.key}' was made with another model of the name '{collection.model.name}' than the "
        "one that is there now, and their vectors must not mix: rebuild the collection."
    )
    return Conflict(message, code="model_changed")


class Collections(Protocol):
    """The store of collections themselves (not of what is in them). A change is durable once its call returns.

    Every method raises `StorageError` when the database can't answer and, where it writes, `StorageFull`.
    """

    async def create(self, new: Collection) -> Collection:
        """Keep a new collection. Raises `Conflict` if the account has one of this key."""
        ...

    async def get(self, account_id: str, key: str) -> Collection | None:
        """The account's collection of this key."""
        ...

    async def by_id(self, collection_id: str) -> Collection | None:
        """The collection of this id, whoever's it is: for what works on behalf of a caller."""
        ...

    async def list(self, account_id: str) -> tuple[Collection, ...]:
        """All of an account's, by key."""
        ...

    async def every(self) -> "tuple[Collection, ...]":
        """Of everybody. Files of any other are left over; look for files first, then ask."""
        ...

    async def replace(self, collection: Collection) -> Collection:
        """Keep what changed: description, retrieval, weight; model and generation only in a switch-over.

        Found by its id. The last to write wins, so read just before.

        Raises:
            NotFound: it is gone.
            Conflict: its generation is a later one by now.
        """
        ...

    async def delete(self, account_id: str, key: str) -> Collection:
        """From now on it is not there; its files are removed by `sweep`, at once or after a crash.

        Raises:
            NotFound: there is none.
        """
        ...


class Documents(Protocol):
    """What is in one collection. A change is durable, and seen by any process's next call, once its call returns.

    Every method raises `StorageError` when the file can't be read or written.
    """

    async def put(
        self,
        new: NewDocument,
        chunks: Sequence[Chunk],
        vectors: Sequence[bytes | memoryview],
        *,
        tokens: int,
        replace: bool = True,
    ) -> Document:
        """Store a document with its chunks and their vectors in one transaction; a former version of it goes.

        Raises:
            Conflict: `replace` is off, and there is one of this key. Decided within the transaction.
        """
        ...

    async def describe(self, key: str, description: str, *, renew: bool = False) -> Document | None:
        """Give a document another description, and nothing else; `renew`: as a new version, with an `id` of its own.

        None: there is no such document.
        """
        ...

    async def get(self, key: str) -> Document | None:
        """The document of this key."""
        ...

    async def list(self) -> tuple[Document, ...]:
        """All documents, by key."""
        ...

    async def text(self, key: str) -> str | None:
        """The whole text of a document: what offsets count in."""
        ...

    async def delete(self, key: str) -> bool:
        """Remove a document with all that was made of it. False: there is none."""
        ...

    async def search(self, query: Query) -> Found:
        """The best chunks. Runs beside the event loop."""
        ...
