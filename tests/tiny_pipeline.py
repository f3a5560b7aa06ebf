"""A pipeline of a few thousand random numbers, in the very files of a real one: so what loads it is what loads those.

Its images are noise that hangs on every input: texts, time steps, seeds. `slow` makes its network work for a while.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import pre_tokenizers

SIZE = 64
"""The usual side of its images, in pixels, of which all sides must be multiples."""

TOKENS, TEXT, CHANNELS, SCALE = 77, 8, 4, 8
_OPSET, _IR = 17, 8
_WORDS = ("a", "cat", "dog", "on", "the", "roof")
_KINDS = {np.dtype("float32"): TensorProto.FLOAT, np.dtype("float16"): TensorProto.FLOAT16}


def write(
    folder: Path,
    *,
    slow: int = 0,
    kind: str = "StableDiffusionPipeline",
    number: type[np.floating[Any]] = np.float32,
    tokens: str | int = "tokens",
    configs: bool = True,
    time: tuple[int, tuple[str, ...]] = (TensorProto.INT64, ("batch",)),
) -> Path:
    """Write it; returns the folder. `slow`: channels within the network; 0: none but the image's own."""
    made = _Graphs(number)
    _json(folder / "model_index.json", {"_class_name": kind, "_diffusers_version": "0.38.0"})
    _tokenizer(folder / "tokenizer")
    _save(made.text_encoder(), folder / "text_encoder")
    _save(made.unet(slow, tokens=tokens, time=time), folder / "unet")
    _save(made.decoder(), folder / "vae_decoder")
    if configs:
        _json(folder / "text_encoder/config.json", {"max_position_embeddings": TOKENS, "hidden_size": TEXT})
        unet = {"sample_size": SIZE // SCALE, "in_channels": CHANNELS, "attention_head_dim": [2, 4, 4, 4]}
        _json(folder / "unet/config.json", unet | {"cross_attention_dim": TEXT})
        _json(folder / "vae_decoder/config.json", {"block_out_channels": [8, 16, 32, 32], "scaling_factor": 0.18215})
        scheduler = {"_class_name": "PNDMScheduler", "beta_start": 0.00085, "beta_end": 0.012}
        scheduler |= {"beta_schedule": "scaled_linear", "num_train_timesteps": 1000, "steps_offset": 1}
        _json(folder / "scheduler/scheduler_config.json", scheduler)
    return folder


class _Graphs:
    """The three networks."""

    def __init__(self, number: type[np.floating[Any]]) -> None:
        self._random = np.random.default_rng(7)
        self._number = np.dtype(number)
        self._kind = _KINDS[self._number]

    def text_encoder(self) -> onnx.ModelProto:
        table = self._weights("table", 1000, TEXT)
        return self._model(
            [helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])],
            [("input_ids", TensorProto.INT32, ("batch", "sequence"))],
            ("last_hidden_state", self._kind, ("batch", "sequence", TEXT)),
            [table],
        )

    def unet(self, slow: int, *, tokens: str | int, time: tuple[int, tuple[str, ...]]) -> onnx.ModelProto:
        """sample + what text and time come to, through convolutions."""
        inner = slow or CHANNELS
        nodes = [
            helper.make_node("ReduceMean", ["encoder_hidden_states"], ["text"], axes=[1], keepdims=0),
            helper.make_node("MatMul", ["text", "of_text"], ["told"]),
            helper.make_node("Cast", ["timestep"], ["when"], to=self._kind),
            helper.make_node("Mul", ["when", "of_time"], ["then"]),
            helper.make_node("Add", ["told", "then"], ["known"]),
            helper.make_node("Tanh", ["known"], ["felt"]),
            helper.make_node("Unsqueeze", ["felt", "axes"], ["spread"]),
            helper.make_node("Add", ["sample", "spread"], ["layer0"]),
        ]
        shapes = [(inner, CHANNELS), *[(inner, inner)] * (3 if slow else 0), (CHANNELS, inner)]
        weights = [self._weights("of_text", TEXT, CHANNELS, scale=2), self._weights("of_time", CHANNELS, scale=0.003)]
        for number, (out, into) in enumerate(shapes):
            weights.append(self._weights(f"w{number}", out, into, 3, 3, scale=0.3 / into))
            nodes.append(
                helper.make_node("Conv", [f"layer{number}", f"w{number}"], [f"layer{number + 1}"], pads=[1, 1, 1, 1])
            )
        nodes.append(helper.make_node("Tanh", [f"layer{len(shapes)}"], ["out_sample"]))
        image = ("batch", CHANNELS, "height", "width")
        return self._model(
            nodes,
            [
                ("sample", self._kind, image),
                ("timestep", *time),
                ("encoder_hidden_states", self._kind, ("batch", tokens, TEXT)),
            ],
            ("out_sample", self._kind, image),
            [*weights, numpy_helper.from_array(np.array([2, 3]), "axes")],
        )

    def decoder(self) -> onnx.ModelProto:
        nodes = [
            helper.make_node("ConvTranspose", ["latent_sample", "w"], ["wide"], strides=[SCALE, SCALE]),
            helper.make_node("Tanh", ["wide"], ["sample"]),
        ]
        return self._model(
            nodes,
            [("latent_sample", self._kind, ("batch", CHANNELS, "height", "width"))],
            ("sample", self._kind, ("batch", 3, "h", "w")),
            [self._weights("w", CHANNELS, 3, SCALE, SCALE, scale=0.1)],
        )

    def _weights(self, name: str, *shape: int, scale: float = 1.0) -> onnx.TensorProto:
        return numpy_helper.from_array((self._random.standard_normal(shape) * scale).astype(self._number), name)

    @staticmethod
    def _model(nodes: list[Any], inputs: list[Any], output: Any, weights: list[Any]) -> onnx.ModelProto:
        values = [helper.make_tensor_value_info(*each) for each in inputs]
        graph = helper.make_graph(nodes, "tiny", values, [helper.make_tensor_value_info(*output)], weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
        onnx.checker.check_model(model)
        return model


def _save(model: onnx.ModelProto, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / "model.onnx")


def _tokenizer(folder: Path) -> None:
    """CLIP's own form: every byte, every byte that ends a word, what a few words are merged from, the two marks."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = [*letters, *(f"{letter}</w>" for letter in letters)]
    merges = []
    for word in _WORDS:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            if (pair := (parts[0], parts[1])) not in merges:
                merges.append(pair)
                names.append("".join(pair))
            parts[:2] = ["".join(parts[:2])]
    names = list(dict.fromkeys([*names, "<|startoftext|>", "<|endoftext|>"]))
    _json(folder / "vocab.json", {name: number for number, name in enumerate(names)})
    lines = ["#version: 0.2", *(f"{one} {other}" for one, other in merges), ""]
    (folder / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    _json(folder / "special_tokens_map.json", {"pad_token": "<|endoftext|>"})


def _json(file: Path, content: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), encoding="utf-8")
