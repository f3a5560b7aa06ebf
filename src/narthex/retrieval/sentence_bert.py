"""What a BERT-type sentence embedder's files say of it, and the digest that names its vectors.

Source: the files that transformers and sentence-transformers write beside the weights.
"""

import hashlib
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from narthex.core.errors import ModelLoadFailed

WEIGHTS, TOKENIZER, CONFIG, MODULES = "model.safetensors", "tokenizer.json", "config.json", "modules.json"

T = TypeVar("T")


class SentenceBert(msgspec.Struct, frozen=True, kw_only=True):
    """One model's shape."""

    layers: int
    heads: int
    hidden: int
    eps: float
    vocabulary: int
    max_tokens: int
    """The positions that the model has. Its authors may have trained with fewer; longer input is still read whole."""
    pooling: Literal["mean", "cls"]
    normalised: bool
    """Whether the model ends in a layer that makes its vectors unit length."""


class _Config(msgspec.Struct):
    model_type: str
    num_hidden_layers: int
    num_attention_heads: int
    hidden_size: int
    vocab_size: int
    max_position_embeddings: int
    layer_norm_eps: float = 1e-12
    hidden_act: str = "gelu"
    position_embedding_type: str = "absolute"


class _Module(msgspec.Struct):
    type: str
    path: str


class _Pooling(msgspec.Struct):
    pooling_mode_cls_token: bool = False
    pooling_mode_mean_tokens: bool = False
    pooling_mode_max_tokens: bool = False
    pooling_mode_mean_sqrt_len_tokens: bool = False


class _Stamp(msgspec.Struct):
    path: str
    size_bytes: int
    mtime_ns: int
    sha256: str


class _Manifest(msgspec.Struct):
    files: list[_Stamp]


def read(model_dir: Path) -> SentenceBert:
    """The shape of the model in `model_dir`.

    Raises:
        ModelLoadFailed: a file is missing or unreadable, or the model is of a kind that we don't build.
    """
    config = _decode(model_dir, CONFIG, kind=_Config)
    wanted = ("bert", "gelu", "absolute")
    if (config.model_type, config.hidden_act, config.position_embedding_type) != wanted:
        raise ModelLoadFailed(f"{model_dir.name}: only BERT with gelu and absolute positions is supported.")
    if config.num_attention_heads < 1 or config.hidden_size % config.num_attention_heads:
        raise ModelLoadFailed(f"{model_dir.name}: {CONFIG} has an impossible number of heads.")
    modules = {
        module.type.rpartition(".")[2]: module.path for module in _decode(model_dir, MODULES, kind=list[_Module])
    }
    if "Pooling" not in modules or not modules.keys() <= {"Transformer", "Pooling", "Normalize"}:
        raise ModelLoadFailed(
            f"{model_dir.name}: {MODULES} names other steps than transformer, pooling, normalisation."
        )
    pooling = _decode(model_dir, f"{modules['Pooling']}/{CONFIG}", kind=_Pooling)
    modes = (pooling.pooling_mode_mean_tokens, pooling.pooling_mode_cls_token)
    others = pooling.pooling_mode_max_tokens or pooling.pooling_mode_mean_sqrt_len_tokens
    if modes not in ((True, False), (False, True)) or others:
        raise ModelLoadFailed(f"{model_dir.name}: only pooling by mean or by [CLS] is supported.")
    return SentenceBert(
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        hidden=config.hidden_size,
        eps=config.layer_norm_eps,
        vocabulary=config.vocab_size,
        max_tokens=config.max_position_embeddings,
        pooling="mean" if pooling.pooling_mode_mean_tokens else "cls",
        normalised="Normalize" in modules,
    )


def _decode(model_dir: Path, name: str, *, kind: type[T]) -> T:
    try:
        return msgspec.json.decode((model_dir / name).read_bytes(), type=kind)
    except OSError as error:
        raise ModelLoadFailed(f"{model_dir.name}/{name} can't be read: {error.strerror}.") from error
    except msgspec.MsgspecError as error:
        raise ModelLoadFailed(f"{model_dir.name}/{name} is not what it should be: {error}.") from error


def digest(model_dir: Path) -> str:
    """What decides a text's vector, as one SHA-256 in hex: weights, tokenizer, shape. Blocks.

    Digests are taken from the manifest beside the model where a file's size and time are still those; a file without
    an entry is read whole.

    Raises:
        ModelLoadFailed: a file is missing.
    """
    try:
        stamps = msgspec.json.decode((model_dir / "manifest.json").read_bytes(), type=_Manifest).files
    except (OSError, msgspec.MsgspecError):
        stamps = []
    known = {(stamp.path, stamp.size_bytes, stamp.mtime_ns): stamp.sha256 for stamp in stamps}
    together = hashlib.sha256(repr(read(model_dir)).encode())
    for name in (WEIGHTS, TOKENIZER):
        try:
            status = (model_dir / name).stat()
            found = known.get((name, status.st_size, status.st_mtime_ns)) or _sha256(model_dir / name)
        except OSError as error:
            raise ModelLoadFailed(f"{model_dir.name}/{name} can't be read: {error.strerror}.") from error
        together.update(found.encode())
    return together.hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
