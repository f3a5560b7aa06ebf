"""What the extractor is started with, asked, and answers.

Rule: texts go by files in the folder of its socket, made and removed by whoever asks; the calls themselves are small.
"""

from pathlib import Path
from typing import Final

import msgspec

from narthex.core.documents import Chunk, Chunking
from narthex.ipc.logs import LogFormat
from narthex.retrieval.chunking.layout import Kind

NAME: Final = "extractor"
"""The child, by its name with the supervisor."""

SCRATCH: Final = "extract-"
"""How the names of the files begin by which texts go."""


class ExtractorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Time is for one file; the memory is the whole process's address space. It ends when nobody asks for `idle_s`."""

    socket: str
    log_format: LogFormat = "auto"
    time_limit_s: float = 120.0
    memory_limit_bytes: int = 1024 * 1024 * 1024
    max_characters: int = 32 * 1024 * 1024
    idle_s: float = 60.0


class Extraction(msgspec.Struct, frozen=True, kw_only=True):
    """What was drawn out of a file. `media_type`: what it is, whatever it was called. `title`: "" where it has none.

    `warnings` are for the one who brought the file: what could not be read, what was guessed.
    """

    text: str
    chunks: tuple[Chunk, ...]
    media_type: str
    title: str = ""
    warnings: tuple[str, ...] = ()


class Extract(msgspec.Struct, frozen=True, kw_only=True):
    """One file to read. `job`: a name that nobody else has. `into`: an empty file for the `Packed` answer."""

    job: str
    path: str
    into: str
    name: str
    media_type: str | None
    chunking: Chunking


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """One text to cut: a file in UTF-8 (surrogates too). The rest as in `Extract`."""

    job: str
    path: str
    into: str
    chunking: Chunking
    kind: Kind


class Packed(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """An `Extraction` with every text once. `spans`: (start, stop, which of `contexts`, page) of each chunk."""

    text: str
    spans: list[tuple[int, int, int, int | None]]
    contexts: list[str]
    media_type: str
    title: str
    warnings: tuple[str, ...]


def job_file(socket: Path) -> Path:
    """Where the extractor notes the job that it begins, and how far it is: "name done total"."""
    return socket.with_suffix(".job")


def packed(extraction: Extraction) -> Packed:
    """As it crosses between the processes."""
    numbers: dict[str, int] = {}
    spans = [
        (chunk.start, chunk.stop, numbers.setdefault(chunk.context, len(numbers)), chunk.page)
        for chunk in extraction.chunks
    ]
    return Packed(
        text=extraction.text,
        spans=spans,
        contexts=list(numbers),
        media_type=extraction.media_type,
        title=extraction.title,
        warnings=extraction.warnings,
    )


def unpacked(it: Packed) -> Extraction:
    """What `packed` took apart."""
    text, contexts = it.text, it.contexts
    return Extraction(
        text=text,
        chunks=tuple(
            Chunk(start=start, stop=stop, text=text[start:stop], context=contexts[context], page=page)
            for start, stop, context, page in it.spans
        ),
        media_type=it.media_type,
        title=it.title,
        warnings=it.warnings,
    )
