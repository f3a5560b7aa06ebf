"""Copies of the chat model with another chat template or with fewer layers: the same words as another kind of model."""

import struct
from collections.abc import Mapping
from pathlib import Path

_TEXT, _ARRAY, _UINT32 = 8, 9, 4
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a value by the number of its type."""
_ALIGNMENT = 32


def rewritten(
    source: Path,
    target: Path,
    *,
    template: str | None = None,
    layers: int | None = None,
    numbers: Mapping[str, int] | None = None,
) -> Path:
    """Write `source` anew with `template` as its chat template, with only so many of its first layers, or with further
    metadata.

    What a model of few layers says makes no sense, but it says it many times as fast.

    Source: the GGUF specification of ggml (docs/gguf.md), version 3.
    """
    read = _File(source.read_bytes())
    if template is not None:
        text = template.encode()
        read.values[b"tokenizer.chat_template"] = struct.pack("<IQ", _TEXT, len(text)) + text
    for name, number in (numbers or {}).items():
        read.values[name.encode()] = struct.pack("<II", _UINT32, number)
    if layers is not None:
        read.values[b"llama.block_count"] = struct.pack("<II", _UINT32, layers)
        read.tensors = {name: each for name, each in read.tensors.items() if not _beyond(name, layers)}
    target.write_bytes(read.written())
    return target


def _beyond(tensor: bytes, layers: int) -> bool:
    kind, number, *_ = [*tensor.split(b"."), b""]
    return kind == b"blk" and int(number) >= layers


class _File:
    """`values` by their keys, each with its type before it; `tensors` by their names: shape with type, and data."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 4
        self.values: dict[bytes, bytes] = {}
        self.tensors: dict[bytes, tuple[bytes, bytes]] = {}
        _, tensors, values = self._unpack("<IQQ")
        for _ in range(values):
            key, began = self._text(), self._at
            self._skip(*self._unpack("<I"))
            self.values[key] = content[began : self._at]
        heads = []
        for _ in range(tensors):
            name, began = self._text(), self._at
            (dimensions,) = self._unpack("<I")
            self._at += 8 * dimensions + 4
            heads.append((name, content[began : self._at], self._unpack("<Q")[0]))
        data = _aligned(self._at)
        ends = [*sorted(offset for _, _, offset in heads), len(content) - data]
        for name, head, offset in heads:
            self.tensors[name] = head, content[data + offset : data + ends[ends.index(offset) + 1]]

    def written(self) -> bytes:
        """The whole file."""
        parts = [b"GGUF", struct.pack("<IQQ", 3, len(self.tensors), len(self.values))]
        parts += [struct.pack("<Q", len(key)) + key + value for key, value in self.values.items()]
        offset = 0
        for name, (head, data) in self.tensors.items():
            parts.append(struct.pack("<Q", len(name)) + name + head + struct.pack("<Q", offset))
            offset = _aligned(offset + len(data))
        head = b"".join(parts)
        bodies = [data.ljust(_aligned(len(data)), b"\0") for _, data in self.tensors.values()]
        return b"".join([head.ljust(_aligned(len(head)), b"\0"), *bodies])

    def _unpack(self, form: str) -> tuple[int, ...]:
        found = struct.unpack_from(form, self._content, self._at)
        self._at += struct.calcsize(form)
        return found

    def _text(self) -> bytes:
        (length,) = self._unpack("<Q")
        self._at += length
        return self._content[self._at - length : self._at]

    def _skip(self, kind: int) -> None:
        if kind == _TEXT:
            self._text()
        elif kind == _ARRAY:
            item, count = self._unpack("<IQ")
            if item in _SIZES:
                self._at += count * _SIZES[item]
            else:
                for _ in range(count):
                    self._skip(item)
        else:
            self._at += _SIZES[kind]


def _aligned(position: int) -> int:
    return -(-position // _ALIGNMENT) * _ALIGNMENT
