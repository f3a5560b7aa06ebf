"""A reader of GGUF headers: what a model file says of itself, and how long the file must be to be whole.

Source: the GGUF specification of ggml (docs/gguf.md), versions 2 and 3, little endian.

Rule: every length in the file is hostile until it has been compared with the bytes that are there. Nothing is allocated
for a length alone, and the only error that leaves this module is `ModelLoadFailed`.
"""

import math
import struct
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import BinaryIO

import msgspec

from narthex.core.errors import ModelLoadFailed

Value = int | float | bool | str | tuple[int | float | bool | str, ...]

MAX_HEADER_BYTES = 128 * 1024 * 1024
MAX_KEYS = 65_536
MAX_TENSORS = 1_048_576
MAX_DIMENSIONS = 8
SMALL_ARRAY = 1024
"""Numeric arrays up to this many elements are always kept; longer ones, and those of strings, only when asked for."""

_CHUNK = 1024 * 1024
_STRING, _ARRAY = 8, 9
_SCALARS = {code: struct.Struct("<" + letter) for code, letter in enumerate("BbHhIif?")} | {
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")

# (elements, bytes) of one block of each tensor type. Source: `GGML_QUANT_SIZES` of llama.cpp's gguf-py.
_BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292),
    16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82),
    23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2),
    34: (256, 54), 35: (256, 66), 39: (32, 17), 40: (64, 36),
}  # fmt: skip


class GgufFile(msgspec.Struct, frozen=True, kw_only=True):
    """What the header says. `None` where the file does not say it."""

    architecture: str
    name: str | None
    context_length: int | None
    embedding_length: int | None
    block_count: int | None
    head_count: int | None
    head_count_kv: int | None
    """The largest of all layers."""
    key_length: int | None
    """Of one head; from `embedding_length / head_count` where the file leaves it out."""
    value_length: int | None
    chat_template: str | None
    chat_templates: dict[str, str]
    """The named ones beside the default, e.g. `tool_use`."""
    bos_token_id: int | None
    eos_token_id: int | None
    add_bos: bool | None
    pooling_type: int | None
    """Only embedding models have one: 0 none, 1 mean, 2 [CLS], 3 last, 4 rank."""
    file_type: int | None
    tensor_count: int
    size_bytes: int
    """Of the file as it is; never less than its tensors need."""
    kv_bytes_per_token: int
    """Of the key-value cache over all layers, in 16-bit floats; 0 where the header does not tell."""
    metadata: dict[str, Value]
    """Everything that was kept."""


def read(path: Path, *, arrays: Collection[str] = ()) -> GgufFile:
    """Read the header of `path` and compare the file's size with what its tensors need. Blocks.

    Args:
        path: the file.
        arrays: keys of long arrays to keep, e.g. `tokenizer.ggml.tokens`.

    Raises:
        ModelLoadFailed: not there, not GGUF, truncated, of an unknown version, or with impossible counts.
    """
    try:
        with path.open("rb") as file:
            return _Header(file, name=path.name, arrays=arrays).read()
    except OSError as error:
        raise ModelLoadFailed(f"{path.name} can't be read: {error.strerror}.") from error


class _Header:
    """One pass over the header. `_at` is the position up to which it has been read."""

    def __init__(self, file: BinaryIO, *, name: str, arrays: Collection[str]) -> None:
        self._file = file
        self._name = name
        self._arrays = arrays
        self._size = file.seek(0, 2)
        file.seek(0)
        self._buffer = bytearray()
        self._at = 0

    def read(self) -> GgufFile:
        if self._size < 8 or self._take(4) != b"GGUF":
            raise self._bad("is not a GGUF file")
        version = self._unpack(_U32)
        if version not in (2, 3):
            big_endian = version in (2 << 24, 3 << 24)
            raise self._bad("is big-endian GGUF" if big_endian else f"is GGUF version {version}; 2 and 3 are supported")
        tensors = self._count("tensors", limit=MAX_TENSORS, least_bytes=24)
        keys = self._count("metadata keys", limit=MAX_KEYS, least_bytes=13)
        metadata: dict[str, Value] = {}
        for _ in range(keys):
            key = self._text()
            if key in metadata:
                raise self._bad(f"has the metadata key {key[:80]} twice")
            value = self._value(key)
            if value is not None:
                metadata[key] = value
        try:
            needed = self._needed_bytes(tensors, _integer(metadata, "general.alignment") or 32)
            if self._size < needed:
                raise self._truncated(needed)
            return _describe(metadata, tensor_count=tensors, size_bytes=self._size)
        except (TypeError, ValueError) as error:
            raise self._bad(f"has unusable metadata: {error}") from None

    def _value(self, key: str) -> Value | None:
        kind = self._unpack(_U32)
        if kind == _STRING:
            return self._text(errors="replace")
        if kind != _ARRAY:
            return self._unpack(self._scalar(kind))
        kind = self._unpack(_U32)
        if kind == _STRING:
            length = self._count(f"elements of {key}", limit=MAX_HEADER_BYTES, least_bytes=8)
            if key in self._arrays or key.startswith("tokenizer.chat_template"):
                return tuple(self._text(errors="replace") for _ in range(length))
            for _ in range(length):
                self._take(self._unpack(_U64))
            return None
        scalar = self._scalar(kind)
        length = self._count(f"elements of {key}", limit=MAX_HEADER_BYTES, least_bytes=scalar.size)
        body = self._take(length * scalar.size)
        if length > SMALL_ARRAY and key not in self._arrays:
            return None
        return tuple(value for (value,) in scalar.iter_unpack(body))

    def _needed_bytes(self, tensors: int, alignment: int) -> int:
        """How long the file must be for the data of all its tensors."""
        if not (8 <= alignment <= 1 << 20) or alignment % 8:
            raise self._bad(f"has an impossible alignment of {alignment}")
        end = 0
        for _ in range(tensors):
            self._text()
            dimensions = self._unpack(_U32)
            if dimensions > MAX_DIMENSIONS:
                raise self._bad(f"has a tensor of {dimensions} dimensions")
            elements = math.prod(self._unpack(_U64) for _ in range(dimensions))
            # A type that is newer than this table counts as empty: the engine knows better, and the other tensors tell.
            per_block, block_bytes = _BLOCKS.get(self._unpack(_U32), (1, 0))
            end = max(end, self._unpack(_U64) + -(-elements // per_block) * block_bytes)
        return -(-self._at // alignment) * alignment + end if tensors else self._at

    def _scalar(self, kind: int) -> struct.Struct:
        if (scalar := _SCALARS.get(kind)) is None:
            raise self._bad(f"has a metadata value of unknown type {kind}")
        return scalar

    def _count(self, what: str, *, limit: int, least_bytes: int) -> int:
        """A number of things that take at least `least_bytes` each."""
        count: int = self._unpack(_U64)
        if count > limit:
            raise self._bad(f"claims {count} {what}")
        if count * least_bytes > self._size - self._at:
            raise self._truncated(self._at + count * least_bytes)
        return count

    def _text(self, *, errors: str = "strict") -> str:
        try:
            return self._take(self._unpack(_U64)).decode(errors=errors)
        except UnicodeDecodeError:
            raise self._bad("has a name that is not UTF-8") from None

    # Which type comes out is fixed by the format letter, which a type checker can't follow.
    def _unpack(self, form: struct.Struct) -> int:
        value: int = form.unpack(self._take(form.size))[0]
        return value

    def _take(self, length: int) -> bytes:
        end = self._at + length
        if end > self._size:
            raise self._truncated(end)
        if end > MAX_HEADER_BYTES:
            raise self._bad(f"has a header of more than {MAX_HEADER_BYTES} bytes")
        while len(self._buffer) < end:
            chunk = self._file.read(max(_CHUNK, end - len(self._buffer)))
            if not chunk:
                raise self._truncated(end)
            self._buffer += chunk
        taken = bytes(memoryview(self._buffer)[self._at : end])
        self._at = end
        return taken

    def _bad(self, what: str) -> ModelLoadFailed:
        return ModelLoadFailed(f"{self._name} {what}.")

    def _truncated(self, needed: int) -> ModelLoadFailed:
        return self._bad(f"is truncated: it has {self._size} bytes and needs at least {needed}")


def _integers(metadata: Mapping[str, Value], key: str) -> tuple[int, ...]:
    """One value for all layers, or one for each."""
    value = metadata.get(key, ())
    values = value if isinstance(value, tuple) else (value,)
    found = tuple(one for one in values if isinstance(one, int) and one >= 0)
    if len(found) != len(values):
        raise ValueError(f"{key} is not a whole number")
    return found


def _integer(metadata: Mapping[str, Value], key: str) -> int | None:
    return max(_integers(metadata, key), default=None)


def _string(metadata: Mapping[str, Value], key: str) -> str | None:
    value = metadata.get(key)
    return value if isinstance(value, str) else None


def _describe(metadata: dict[str, Value], *, tensor_count: int, size_bytes: int) -> GgufFile:
    architecture = _string(metadata, "general.architecture")
    if architecture is None:
        raise ValueError("general.architecture is missing")

    def integer(key: str) -> int | None:
        return _integer(metadata, f"{architecture}.{key}")

    heads, width, blocks = integer("attention.head_count"), integer("embedding_length"), integer("block_count")
    per_head = width // heads if width and heads else None
    key_length = integer("attention.key_length") or per_head
    value_length = integer("attention.value_length") or per_head
    kv_heads = _integers(metadata, f"{architecture}.attention.head_count_kv") or ((heads,) if heads else ())
    kv_heads_of_all = sum(kv_heads) if len(kv_heads) > 1 else sum(kv_heads) * (blocks or 0)
    add_bos = metadata.get("tokenizer.ggml.add_bos_token")
    prefix = "tokenizer.chat_template."
    return GgufFile(
        architecture=architecture,
        name=_string(metadata, "general.name"),
        context_length=integer("context_length"),
        embedding_length=width,
        block_count=blocks,
        head_count=heads,
        head_count_kv=max(kv_heads, default=None),
        key_length=key_length,
        value_length=value_length,
        chat_template=_string(metadata, "tokenizer.chat_template"),
        chat_templates={
            key.removeprefix(prefix): value
            for key, value in metadata.items()
            if key.startswith(prefix) and isinstance(value, str)
        },
        bos_token_id=_integer(metadata, "tokenizer.ggml.bos_token_id"),
        eos_token_id=_integer(metadata, "tokenizer.ggml.eos_token_id"),
        add_bos=add_bos if isinstance(add_bos, bool) else None,
        pooling_type=integer("pooling_type"),
        file_type=_integer(metadata, "general.file_type"),
        tensor_count=tensor_count,
        size_bytes=size_bytes,
        kv_bytes_per_token=2 * kv_heads_of_all * ((key_length or 0) + (value_length or 0)),
        metadata=metadata,
    )
