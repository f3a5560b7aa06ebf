"""Kokoro's files with next to nothing in them: a graph with the inputs and the output of a real one, and its voices.

Its speech is a tone: 50 ms for each phoneme, as high as the voice is, with silence at both ends.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SAMPLES = 1200
"""Of a phoneme, at the usual speed."""
NAMES = ("af_alloy", "am_michael", "bm_fable", "af_heart", "am_echo", "af_sarah", "af_bella", "am_puck", "ef_dora")
_OPSET, _IR = 17, 8


def write(folder: Path, *, newer: bool = False, names: tuple[str, ...] = NAMES, lengths: int = 511) -> dict[str, str]:
    """Write them; returns the setting that names them. `newer`: the other form of its inputs, without speeds."""
    model, voices = folder / "kokoro.onnx", folder / "voices.bin"
    onnx.save(graph(newer=newer), model)
    styles = {name: np.full((lengths, 1, 256), 300.0 + 100 * at, np.float32) for at, name in enumerate(names)}
    with voices.open("wb") as file:
        np.savez(file, **styles)  # type: ignore[arg-type]
    return {"model": str(model), "voices": str(voices)}


def graph(*, newer: bool = False) -> onnx.ModelProto:
    """One that hums."""
    name, pace = ("input_ids", TensorProto.INT32) if newer else ("tokens", TensorProto.FLOAT)
    constants = {
        "each": np.float32(SAMPLES), "zero": np.int64(0), "one": np.int64(1), "turn": np.float32(2 * np.pi / 24_000),
        "half": np.float32(0.5), "pads": np.array([2400, 2400], np.int64), "first": np.int64(1), "only": np.array([0]),
        "axes": np.array([0], np.int64), "place": np.array([0, 0], np.int64),
    }  # fmt: skip
    nodes = [
        _node("Shape", [name], "shape"),
        _node("Gather", ["shape", "first"], "count"),
        _node("Cast", ["count"], "phonemes", to=TensorProto.FLOAT),
        _node("Cast", ["speed"], "paces", to=TensorProto.FLOAT),
        _node("Squeeze", ["paces", "axes"], "pace"),
        _node("Mul", ["phonemes", "each"], "usual"),
        _node("Div", ["usual", "pace"], "length"),
        _node("Cast", ["length"], "samples", to=TensorProto.INT64),
        _node("Range", ["zero", "samples", "one"], "times"),
        _node("Cast", ["times"], "seconds", to=TensorProto.FLOAT),
        _node("GatherND", ["style", "place"], "hertz"),
        _node("Mul", ["seconds", "turn"], "turns"),
        _node("Mul", ["turns", "hertz"], "angles"),
        _node("Sin", ["angles"], "tone"),
        _node("Mul", ["tone", "half"], "heard"),
        _node("Pad", ["heard", "pads"], "audio"),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, [1, "sequence"]),
        helper.make_tensor_value_info("style", TensorProto.FLOAT, [1, 256]),
        helper.make_tensor_value_info("speed", pace, [1]),
    ]
    made = helper.make_graph(
        nodes,
        "kokoro",
        inputs,
        [helper.make_tensor_value_info("audio", TensorProto.FLOAT, ["samples"])],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)


def _node(kind: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, [output], **attributes)
