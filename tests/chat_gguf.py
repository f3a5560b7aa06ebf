"""Copies of the chat model with another chat template or other tokens: the same weights as another kind of model."""

import functools
from pathlib import Path
from typing import Any

import gguf


def rewritten(source: Path, target: Path, *, template: str | None = None, **numbers: int) -> Path:
    """Write `source` anew with `template` as its chat template, and with further metadata, dots written as `__`.

    Example: `rewritten(a, b, tokenizer__ggml__fim_pre_token_id=5)`.
    """
    read = _read(source)
    writer = gguf.GGUFWriter(target, "llama")
    for name, field in read.fields.items():
        if name.startswith("GGUF.") or name in {"general.architecture", "tokenizer.chat_template"}:
            continue
        kind, *item = field.types
        writer.add_key_value(name, field.contents(), kind, sub_type=item[0] if item else None)
    if template is not None:
        writer.add_chat_template(template)
    for name, number in numbers.items():
        writer.add_uint32(name.replace("__", "."), number)
    for tensor in read.tensors:
        writer.add_tensor(tensor.name, _data(tensor), raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


@functools.cache
def _read(source: Path) -> gguf.GGUFReader:
    """Takes seconds, for all the vocabulary's words."""
    return gguf.GGUFReader(source)


def _data(tensor: Any) -> Any:
    return tensor.data
