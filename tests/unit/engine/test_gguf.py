import contextlib
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from narthex.core.errors import ModelLoadFailed
from narthex.engine import gguf

pytest_plugins = ["tests.models_fixture"]

FLOAT32, UINT32, INT32, BOOL, STRING, ARRAY, UINT64 = 6, 4, 5, 7, 8, 9, 10
F16, Q4_1 = 1, 3


def text(value: str | bytes) -> bytes:
    body = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(body)) + body


def string(value: str) -> bytes:
    return struct.pack("<I", STRING) + text(value)


def uint32(value: int) -> bytes:
    return struct.pack("<II", UINT32, value)


def boolean(value: bool) -> bytes:
    return struct.pack("<I?", BOOL, value)


def array_of(kind: int, form: str, *values: float) -> bytes:
    return struct.pack(f"<IIQ{len(values)}{form}", ARRAY, kind, len(values), *values)


def strings(*values: str) -> bytes:
    return struct.pack("<IIQ", ARRAY, STRING, len(values)) + b"".join(map(text, values))


def tensor(name: str, *shape: int, kind: int, offset: int) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def header(
    metadata: dict[str, bytes], *tensors: bytes, version: int = 3, counts: tuple[int, int] | None = None
) -> bytes:
    numbers = counts or (len(tensors), len(metadata))
    pairs = b"".join(text(key) + value for key, value in metadata.items())
    return b"GGUF" + struct.pack("<IQQ", version, *numbers) + pairs + b"".join(tensors)


def padded(head: bytes, data: int, *, alignment: int = 32) -> bytes:
    return head + bytes(-len(head) % alignment + data)


LLAMA = {
    "general.architecture": string("llama"),
    "general.name": string("Tiny"),
    "general.file_type": uint32(3),
    "llama.context_length": uint32(2048),
    "llama.embedding_length": uint32(64),
    "llama.block_count": uint32(4),
    "llama.attention.head_count": uint32(8),
    "llama.attention.head_count_kv": uint32(2),
    "tokenizer.ggml.bos_token_id": uint32(1),
    "tokenizer.ggml.eos_token_id": uint32(2),
    "tokenizer.ggml.add_bos_token": boolean(True),
    "tokenizer.ggml.tokens": strings("<unk>", "<s>", "</s>"),
    "tokenizer.ggml.scores": array_of(FLOAT32, "f", *([0.5] * (gguf.SMALL_ARRAY + 1))),
    "tokenizer.chat_template": string("{{ messages }}"),
    "tokenizer.chat_template.tool_use": string("{{ tools }}"),
    "tokenizer.chat_templates": strings("tool_use"),
}
TENSORS = (tensor("a", 64, 2, kind=F16, offset=0), tensor("b", 64, kind=Q4_1, offset=256))
WHOLE = padded(header(LLAMA, *TENSORS), 256 + 2 * 20)


def read(tmp_path: Path, body: bytes, **options: object) -> gguf.GgufFile:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(body)
    return gguf.read(path, **options)  # type: ignore[arg-type]


def test_says_what_the_header_says(tmp_path: Path) -> None:
    found = read(tmp_path, WHOLE)
    assert (found.architecture, found.name, found.file_type) == ("llama", "Tiny", 3)
    assert (found.context_length, found.embedding_length, found.block_count) == (2048, 64, 4)
    assert (found.head_count, found.head_count_kv, found.key_length, found.value_length) == (8, 2, 8, 8)
    assert (found.bos_token_id, found.eos_token_id, found.add_bos, found.pooling_type) == (1, 2, True, None)
    assert found.chat_template == "{{ messages }}"
    assert found.chat_templates == {"tool_use": "{{ tools }}"}
    assert found.tensor_count == 2
    assert found.size_bytes == len(WHOLE)
    assert found.kv_bytes_per_token == 4 * 2 * (8 + 8) * 2


def test_keeps_long_arrays_only_when_asked(tmp_path: Path) -> None:
    assert "tokenizer.ggml.tokens" not in read(tmp_path, WHOLE).metadata
    assert "tokenizer.ggml.scores" not in read(tmp_path, WHOLE).metadata
    found = read(tmp_path, WHOLE, arrays=("tokenizer.ggml.tokens", "tokenizer.ggml.scores")).metadata
    assert found["tokenizer.ggml.tokens"] == ("<unk>", "<s>", "</s>")
    assert found["tokenizer.ggml.scores"] == (0.5,) * (gguf.SMALL_ARRAY + 1)


def test_counts_the_cache_of_layers_that_differ(tmp_path: Path) -> None:
    metadata = LLAMA | {
        "llama.attention.head_count_kv": array_of(INT32, "i", 2, 0, 1, 1),
        "llama.attention.key_length": uint32(16),
        "llama.attention.value_length": uint32(4),
    }
    found = read(tmp_path, header(metadata))
    assert found.head_count_kv == 2
    assert found.kv_bytes_per_token == 4 * (16 + 4) * 2


def test_says_none_where_the_file_says_nothing(tmp_path: Path) -> None:
    found = read(tmp_path, header({"general.architecture": string("bert"), "bert.pooling_type": uint32(1)}, version=2))
    assert found.pooling_type == 1
    assert (found.name, found.context_length, found.head_count_kv, found.add_bos) == (None, None, None, None)
    assert found.kv_bytes_per_token == 0


def test_a_tensor_of_a_newer_type_does_not_count(tmp_path: Path) -> None:
    read(tmp_path, padded(header(LLAMA, tensor("new", 1 << 40, kind=199, offset=0)), 0))


def test_takes_the_alignment_from_the_file(tmp_path: Path) -> None:
    metadata = LLAMA | {"general.alignment": uint32(4096)}
    body = padded(header(metadata, *TENSORS), 296, alignment=4096)
    assert read(tmp_path, body).size_bytes == len(body)
    with pytest.raises(ModelLoadFailed, match="truncated"):
        read(tmp_path, body[:-1])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "is not a GGUF file"),
        (b"GGML" + bytes(100), "is not a GGUF file"),
        (b"<!DOCTYPE html>", "is not a GGUF file"),
        (header(LLAMA, version=1), "is GGUF version 1; 2 and 3 are supported"),
        (header(LLAMA, version=3 << 24), "is big-endian GGUF"),
        (header({}, counts=(1 << 60, 0)), "claims 1152921504606846976 tensors"),
        (header({}, counts=(0, 1 << 60)), "claims 1152921504606846976 metadata keys"),
        (header({}, counts=(0, 1000)), "is truncated: it has 24 bytes and needs at least 13024"),
        (header({"a": struct.pack("<IQ", STRING, 1 << 62)}), "is truncated"),
        (header({"a": struct.pack("<IIQ", ARRAY, UINT64, 1 << 61)}), "claims"),
        (header({"a": struct.pack("<IIQ", ARRAY, UINT64, 1 << 20)}), "is truncated"),
        (header({"a": struct.pack("<IIQ", ARRAY, ARRAY, 1)}), "unknown type 9"),
        (header({"a": struct.pack("<I", 77)}), "unknown type 77"),
        (header({}), "general.architecture is missing"),
        (header({"general.architecture": uint32(1)}), "general.architecture is missing"),
        (header(LLAMA | {"llama.block_count": string("four")}), "llama.block_count is not a whole number"),
        (header(LLAMA | {"llama.block_count": struct.pack("<Ii", INT32, -4)}), "is not a whole number"),
        (header(LLAMA | {"general.alignment": uint32(7)}), "impossible alignment of 7"),
        (header(LLAMA | {"general.alignment": uint32(1 << 30)}), "impossible alignment"),
        (header(LLAMA | {"general.alignment": string("x")}), "general.alignment is not a whole number"),
        (header(LLAMA, text("t") + struct.pack("<I", 99) + bytes(20)), "a tensor of 99 dimensions"),
        (header(LLAMA, text(b"\xff\xfe") + bytes(30)), "not UTF-8"),
        (header({}, counts=(0, 2)) + (text("a") + uint32(1)) * 2, "has the metadata key a twice"),
    ],
)
def test_refuses_what_is_not_a_whole_model(tmp_path: Path, body: bytes, message: str) -> None:
    with pytest.raises(ModelLoadFailed) as caught:
        read(tmp_path, body)
    assert caught.value.message.startswith("tiny.gguf ")
    assert message in caught.value.message


def test_says_how_many_bytes_are_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadFailed) as caught:
        read(tmp_path, WHOLE[:-100])
    have, need = len(WHOLE) - 100, len(WHOLE)
    assert caught.value.message == f"tiny.gguf is truncated: it has {have} bytes and needs at least {need}."


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadFailed, match="can't be read: No such file"):
        gguf.read(tmp_path / "none.gguf")
    with pytest.raises(ModelLoadFailed, match="can't be read: Is a directory"):
        gguf.read(tmp_path)


def test_a_header_has_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf, "MAX_HEADER_BYTES", 200)
    with pytest.raises(ModelLoadFailed, match="a header of more than 200 bytes"):
        read(tmp_path, WHOLE)


def test_cut_anywhere_it_is_truncated(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    step = 7 if len(WHOLE) > 4000 else 1
    for length in range(0, len(WHOLE), step):
        path.write_bytes(WHOLE[:length])
        with pytest.raises(ModelLoadFailed):
            gguf.read(path)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_whatever_bytes_there_are_only_our_error_leaves(tmp_path: Path, flips: list[tuple[int, int]]) -> None:
    body = bytearray(WHOLE)
    for position, value in flips:
        body[position] = value
    with contextlib.suppress(ModelLoadFailed):
        assert read(tmp_path, bytes(body)).size_bytes == len(body)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tail=st.binary(max_size=300), version=st.sampled_from([2, 3]))
def test_garbage_after_the_magic(tmp_path: Path, tail: bytes, version: int) -> None:
    with pytest.raises(ModelLoadFailed):
        read(tmp_path, b"GGUF" + struct.pack("<IQQ", version, 1, 2) + tail)


def test_the_file_of_the_catalogue(models_dir: Path) -> None:
    (path,) = (models_dir / "smollm2-135m-instruct").glob("*.gguf")
    found = gguf.read(path, arrays=("tokenizer.ggml.tokens",))
    assert (found.architecture, found.context_length, found.block_count) == ("llama", 8192, 30)
    assert (found.head_count, found.head_count_kv, found.kv_bytes_per_token) == (9, 3, 23040)
    assert "<|im_start|>" in (found.chat_template or "")
    tokens = found.metadata["tokenizer.ggml.tokens"]
    assert isinstance(tokens, tuple)
    assert len(tokens) == 49152
