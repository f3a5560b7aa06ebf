"""Documents that are given as text: their chunks, and what whoever gave them should know."""

import asyncio

from narthex.core.documents import MAX_CHUNKS, Chunk, Chunking, Collection, Embedded
from narthex.core.errors import InvalidRequest
from narthex.retrieval.chunking.cut import cut


async def chunks_of(text: str, chunking: Chunking) -> list[Chunk]:
    """The chunks of a text, cut beside the event loop.

    Raises:
        InvalidRequest: there would be too many.
    """
    kind = "text" if chunking.mode == "windows" else "markdown"
    if len(text) / chunking.size <= 4 * MAX_CHUNKS:
        chunks = await asyncio.to_thread(cut, text, chunking, kind=kind)  # type: ignore[arg-type]
        if len(chunks) <= MAX_CHUNKS:
            return chunks
    message = (
        f"Invalid 'chunkSize': this text would be more than {MAX_CHUNKS} chunks of {chunking.size} characters: "
        "make them larger."
    )
    raise InvalidRequest(message, param="chunkSize")


def warnings_of(embedded: Embedded, collection: Collection) -> tuple[str, ...]:
    """What to tell of chunks that the model read in part."""
    if not embedded.cut:
        return ()
    reads = f"the {collection.model.max_tokens} tokens that" if collection.model.max_tokens else "what"
    named = ", ".join(map(str, embedded.cut[:20])) + (", …" if len(embedded.cut) > 20 else "")
    return (
        f"Longer than {reads} the model '{collection.model.name}' reads: {len(embedded.cut)} chunks ({named}). Their "
        "vectors are of their beginnings; their words are found all the same. A smaller chunkSize avoids this.",
    )
