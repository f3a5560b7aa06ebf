"""What the files of models tell about them. A damaged file tells nothing: whoever asks for its model is told why."""

from pathlib import Path

from narthex.core.errors import ModelLoadFailed
from narthex.engine import gguf
from narthex.engine.local.form.thinking import heeded
from narthex.engine.local.infill import fill_in_of
from narthex.retrieval import sentence_bert


def header(file: Path) -> gguf.GgufFile | None:
    """Of a GGUF file."""
    try:
        return gguf.read(file)
    except ModelLoadFailed:
        return None


def heeds(header: gguf.GgufFile) -> frozenset[str]:
    """The request fields that only some models honour, and this one does."""
    fills_in = fill_in_of(header.metadata) is not None
    return heeded(header.chat_template or "") | ({"suffix"} if fills_in else set())


def shape(folder: Path) -> sentence_bert.SentenceBert | None:
    """Of an embedding model."""
    try:
        return sentence_bert.read(folder)
    except ModelLoadFailed:
        return None


def size(file: Path) -> int:
    """In bytes; 0 if it is gone."""
    return file.stat().st_size if file.exists() else 0
