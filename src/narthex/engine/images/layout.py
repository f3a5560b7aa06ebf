"""A pipeline's folder: which files it has, and what they say of the model before anything large is loaded.

Source: the layout of Stable Diffusion in ONNX as Optimum's exporter and the older `onnx` branches of the hub write it:

    model_index.json                     which kind of pipeline it is
    tokenizer/{vocab.json,merges.txt}
    text_encoder/{config.json,model.onnx}
    unet/{config.json,model.onnx}        config.json is missing in older ones, and so are the other two
    vae_decoder/{config.json,model.onnx}
    scheduler/scheduler_config.json

Rule: cheap to import; who plans the processes reads sizes here.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from narthex.core.errors import ModelLoadFailed

INDEX = "model_index.json"
GRAPH = "model.onnx"
PARTS = ("text_encoder", "unet", "vae_decoder")
GRAPHS = ("unet/model.onnx", "text_encoder/model.onnx", "vae_decoder/model.onnx")
"""In a pipeline's folder; the largest first."""
_FOLDERS = (*PARTS, "tokenizer", "scheduler")
_OTHERS = (".bin", ".safetensors", ".msgpack", ".ckpt", ".pt")
"""What other libraries keep their weights in."""
KINDS = ("StableDiffusionPipeline", "OnnxStableDiffusionPipeline", "ORTStableDiffusionPipeline")

LARGEST_SIDE = 4096  # pixels

_GUIDED = 4  # bytes of one float32

T = TypeVar("T")


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """How noise was added in training; the file `scheduler/scheduler_config.json`, as far as it matters here."""

    num_train_timesteps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    beta_schedule: Literal["linear", "scaled_linear"] = "scaled_linear"
    prediction_type: Literal["epsilon", "v_prediction"] = "epsilon"
    steps_offset: int = 1


class _Index(msgspec.Struct, kw_only=True):
    kind: str = msgspec.field(name="_class_name")


class _TextEncoder(msgspec.Struct, kw_only=True):
    max_position_embeddings: int = 77


class _Unet(msgspec.Struct, kw_only=True):
    sample_size: int = 64
    in_channels: int = 4
    attention_head_dim: int | list[int] = 8
    down_block_types: tuple[str, ...] = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)


class _Vae(msgspec.Struct, kw_only=True):
    scaling_factor: float = 0.18215
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """What a pipeline is. Sizes are in pixels; `scale` of them make one latent point."""

    name: str
    folder: Path
    training: Training
    tokens: int
    channels: int
    scale: int
    multiple: int
    """Of which both sides of an image must be multiples."""
    usual: int
    """The side of the square images that it was trained with."""
    scaling_factor: float
    heads: int
    """Of the attention over the whole image; 0: there is none at full resolution."""
    width: int
    """Channels of the decoder's last layers."""

    def graph(self, part: str) -> Path:
        """The graph of a part."""
        return self.folder / part / GRAPH

    def work_bytes(self, width: int, height: int) -> int:
        """About what making an image of this size takes beside the weights.

        The network's attention compares every latent point with every other, in every head; the decoder does so once,
        and then works at full size.
        """
        points = (width // self.scale) * (height // self.scale)
        network = 2 * _GUIDED * self.heads * points**2
        decoder = max(2 * _GUIDED * points**2, 4 * _GUIDED * self.width * width * height)
        return max(network, decoder)


def read(folder: Path) -> Layout:
    """What the folder holds.

    Raises:
        ModelLoadFailed: it is no pipeline, one of a kind that isn't served, or not whole.
    """
    if not (folder / INDEX).is_file():
        raise ModelLoadFailed(f"{folder.name} is no pipeline: it has no {INDEX}.")
    kind = _read(folder / INDEX, _Index).kind
    if kind not in KINDS:
        raise ModelLoadFailed(f"{folder.name} is a {kind}, which is not served. Served: {KINDS[0]} in ONNX.")
    for part in PARTS:
        if not (folder / part / GRAPH).is_file():
            raise ModelLoadFailed(
                f"{folder.name}/{part}/{GRAPH} is missing: the pipeline has to be exported to ONNX "
                "(docs/howto/images-local.md)."
            )
    text = _optional(folder / "text_encoder/config.json", _TextEncoder)
    unet = _optional(folder / "unet/config.json", _Unet)
    vae = _optional(folder / "vae_decoder/config.json", _Vae)
    scale = 2 ** (len(vae.block_out_channels) - 1)
    heads = unet.attention_head_dim if isinstance(unet.attention_head_dim, int) else unet.attention_head_dim[0]
    return Layout(
        name=folder.name,
        folder=folder,
        training=_optional(folder / "scheduler/scheduler_config.json", Training),
        tokens=text.max_position_embeddings,
        channels=unet.in_channels,
        scale=scale,
        multiple=scale * 2 ** (len(unet.down_block_types) - 1),
        usual=unet.sample_size * scale,
        scaling_factor=vae.scaling_factor,
        heads=heads if "Attn" in unet.down_block_types[0] else 0,
        width=vae.block_out_channels[0],
    )


def belongs(name: str) -> bool:
    """Whether a file of a repository is part of the pipeline, by its path there."""
    folder, _, file = name.partition("/")
    if name == INDEX:
        return True
    return folder in _FOLDERS and "/" not in file and not file.startswith(".") and not file.endswith(_OTHERS)


def weights_bytes(folder: Path) -> int:
    """What the graphs and their weights take on the disk, and so about in memory; 0 where nothing is."""
    return sum(file.stat().st_size for part in PARTS for file in _files(folder / part))


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.glob("*") if path.is_file())


def _optional(path: Path, kind: type[T]) -> T:
    return _read(path, kind) if path.is_file() else kind()


def _read(path: Path, kind: type[T]) -> T:
    shown = "/".join(path.parts[-3:]) if path.name != INDEX else f"{path.parent.name}/{path.name}"
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise ModelLoadFailed(f"{shown} can't be read: {error.strerror}.") from error
    except msgspec.MsgspecError as error:
        raise ModelLoadFailed(f"{shown} is not what it should be: {error}.") from error
