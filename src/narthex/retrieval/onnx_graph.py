"""Builds the ONNX graph of a sentence embedder from its safetensors, once, in a process of its own.

The graph takes `input_ids` int64[texts, tokens] and gives `vectors` float32[texts, hidden]. It has no attention mask:
the embedder runs texts of equal length together and never pads. Only standard operators, so any ONNX runtime takes it.
Rule: no `Range` goes into a `Gather`; onnxruntime's fusions fail on that. Positions are a slice of their table.

`python -m narthex.retrieval.onnx_graph MODEL_DIR` builds; the process that embeds never imports `onnx`.
"""

import contextlib
import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from narthex.core.errors import ModelLoadFailed, NarthexError
from narthex.retrieval import sentence_bert
from narthex.retrieval.sentence_bert import SentenceBert

VERSION = 1
"""Goes up with every change to the graph: the files of older versions are then built anew."""

INPUT, OUTPUT = "input_ids", "vectors"
_OPSET, _IR = 20, 10


def path_in(model_dir: Path) -> Path:
    """Where the graph of this model and this version of the builder stands. Blocks.

    Raises:
        ModelLoadFailed: a file of the model is missing or unreadable.
    """
    name = hashlib.sha256(f"{sentence_bert.digest(model_dir)} {VERSION}".encode()).hexdigest()[:16]
    return model_dir / f"model-{name}.onnx"


def ensure(model_dir: Path) -> Path:
    """The graph's path, after it was built if need be. Blocks, for seconds when it builds.

    Raises:
        ModelLoadFailed: it can't be built; says why.
    """
    path = path_in(model_dir)
    if not path.is_file():
        done = subprocess.run(  # noqa: S603 - every argument is ours
            [sys.executable, "-m", "narthex.retrieval.onnx_graph", str(model_dir)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode != 0 or not path.is_file():
            reason = (done.stderr.strip().splitlines() or [f"the builder ended with status {done.returncode}"])[-1]
            raise ModelLoadFailed(f"{model_dir.name}: the ONNX graph could not be built: {reason[:500]}")
    return path


def build(model_dir: Path) -> Path:
    """Build the graph's file here and now, atomically; another builder of the same model is waited for.

    Raises:
        ModelLoadFailed: the model's files are not what they should be.
        OSError: the folder can't be written.
    """
    path = path_in(model_dir)
    with _locked(model_dir / ".graph.lock"):
        if path.is_file():
            return path
        body = _serialised(sentence_bert.read(model_dir), model_dir / sentence_bert.WEIGHTS)
        draft = model_dir / ".graph.building"
        with draft.open("wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        for older in model_dir.glob("model-*.onnx"):
            if older != path:
                older.unlink()
    return path


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _serialised(shape: SentenceBert, weights: Path) -> bytes:
    import safetensors  # noqa: PLC0415 - wanted by the builder's process only, as is onnx
    from safetensors.numpy import load_file  # noqa: PLC0415

    try:
        tensors = load_file(weights)
        return _Graph(shape, tensors).build()
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ModelLoadFailed(f"{weights.parent.name}/{weights.name} is not what it should be: {error}.") from error


class _Graph:
    """The graph while it grows. Values are passed by name; a weight becomes part of the graph when it is first used."""

    def __init__(self, shape: SentenceBert, tensors: dict[str, Any]) -> None:
        import numpy  # noqa: PLC0415, ICN001
        import onnx  # noqa: PLC0415

        self._numpy, self._onnx = numpy, onnx
        self._shape = shape
        # Some checkpoints hold the bare encoder, others the encoder under the name it has in a larger model.
        self._tensors = {name.removeprefix("bert."): tensor for name, tensor in tensors.items()}
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}

    def build(self) -> bytes:
        shape, helper, floats = self._shape, self._onnx.helper, self._onnx.TensorProto
        hidden = self._embedded()
        for layer in range(shape.layers):
            hidden = self._layer(hidden, f"encoder.layer.{layer}.")
        vectors = self._pooled(hidden)
        if shape.normalised:
            vectors = self._add("LpNormalization", vectors, axis=-1, p=2)
        self._nodes.append(helper.make_node("Identity", [vectors], [OUTPUT]))
        graph = helper.make_graph(
            self._nodes,
            "sentence_bert",
            [helper.make_tensor_value_info(INPUT, floats.INT64, ["texts", "tokens"])],
            [helper.make_tensor_value_info(OUTPUT, floats.FLOAT, ["texts", shape.hidden])],
            list(self._constants.values()),
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
        self._onnx.checker.check_model(model)
        body: bytes = model.SerializeToString()
        return body

    def _embedded(self) -> str:
        words, positions = self._weight("embeddings.word_embeddings.weight"), "embeddings.positions"
        # All tokens are of the first type, so its row is added to every position beforehand.
        first_type = self._tensors["embeddings.token_type_embeddings.weight"][0]
        self._constant(positions, self._tensors["embeddings.position_embeddings.weight"] + first_type)
        tokens = self._add("Shape", INPUT, start=1, end=2)
        sliced = self._add("Slice", positions, self._ints("zero", 0), tokens, self._ints("zero", 0))
        summed = self._add("Add", self._add("Gather", words, INPUT), sliced)
        return self._norm(summed, "embeddings.LayerNorm")

    def _layer(self, hidden: str, prefix: str) -> str:
        shape, own = self._shape, prefix + "attention.self."
        split = self._ints("split", 0, 0, shape.heads, shape.hidden // shape.heads)
        join = self._ints("join", 0, 0, shape.hidden)
        scale = self._constant("scale", self._numpy.float32((shape.hidden // shape.heads) ** -0.5))

        def heads(part: str, order: list[int]) -> str:
            projected = self._add("Reshape", self._linear(hidden, own + part), split)
            return self._add("Transpose", projected, perm=order)

        query, key, value = heads("query", [0, 2, 1, 3]), heads("key", [0, 2, 3, 1]), heads("value", [0, 2, 1, 3])
        scores = self._add("Mul", self._add("MatMul", query, key), scale)
        mixed = self._add("MatMul", self._add("Softmax", scores, axis=-1), value)
        mixed = self._add("Reshape", self._add("Transpose", mixed, perm=[0, 2, 1, 3]), join)
        attended = self._add("Add", self._linear(mixed, prefix + "attention.output.dense"), hidden)
        attended = self._norm(attended, prefix + "attention.output.LayerNorm")
        wide = self._add("Gelu", self._linear(attended, prefix + "intermediate.dense"))
        narrow = self._add("Add", self._linear(wide, prefix + "output.dense"), attended)
        return self._norm(narrow, prefix + "output.LayerNorm")

    def _pooled(self, hidden: str) -> str:
        if self._shape.pooling == "mean":
            return self._add("ReduceMean", hidden, self._ints("one", 1), keepdims=0)
        return self._add("Gather", hidden, self._constant("first", self._numpy.int64(0)), axis=1)

    def _linear(self, hidden: str, name: str) -> str:
        product = self._add("MatMul", hidden, self._weight(f"{name}.weight", transposed=True))
        return self._add("Add", product, self._weight(f"{name}.bias"))

    def _norm(self, hidden: str, name: str) -> str:
        weight, bias = self._weight(f"{name}.weight"), self._weight(f"{name}.bias")
        return self._add("LayerNormalization", hidden, weight, bias, axis=-1, epsilon=self._shape.eps)

    def _weight(self, name: str, *, transposed: bool = False) -> str:
        tensor = self._tensors[name].astype(self._numpy.float32)
        return self._constant(name, tensor.T if transposed else tensor)

    def _ints(self, name: str, *values: int) -> str:
        return self._constant(name, self._numpy.array(values, self._numpy.int64))

    def _constant(self, name: str, value: Any) -> str:
        if name not in self._constants:
            contiguous = self._numpy.array(value, order="C")
            self._constants[name] = self._onnx.numpy_helper.from_array(contiguous, name)
        return name

    def _add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Append one node; its output's name."""
        output = f"{operator}_{len(self._nodes)}"
        self._nodes.append(self._onnx.helper.make_node(operator, list(inputs), [output], **attributes))
        return output


def main() -> int:
    """Build for the folder on the command line; the reason of a failure goes to standard error."""
    try:
        build(Path(sys.argv[1]))
    except (NarthexError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
