"""One embedding model in memory: texts to token ids, token ids to vectors."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors
from tokenizers import Tokenizer

from narthex.core.errors import ModelLoadFailed
from narthex.retrieval import onnx_graph, sentence_bert

Vectors = npt.NDArray[np.float32]

_UNREADABLE = (
    ort_errors.InvalidProtobuf,
    ort_errors.InvalidGraph,
    ort_errors.InvalidArgument,
    ort_errors.NoSuchFile,
    ort_errors.Fail,
)


class EmbeddingModel:
    """Safe for any number of threads; `run` uses `threads` of its own (0: one for each core)."""

    def __init__(self, model_dir: Path, *, threads: int = 0) -> None:
        """Load, and build the graph first where it is missing. Blocks.

        Raises:
            ModelLoadFailed: a file is missing, damaged or of a kind that we don't serve.
        """
        shape = sentence_bert.read(model_dir)
        self.dim, self.max_tokens, self.vocabulary = shape.hidden, shape.max_tokens, shape.vocabulary
        self.digest = sentence_bert.digest(model_dir)
        self._tokenizer = _tokenizer(model_dir)
        marks: list[int] = self._tokenizer.encode("").ids
        if len(marks) != 2:
            raise ModelLoadFailed(f"{model_dir.name}: the tokenizer does not put one mark before and one after a text.")
        self.first, self.last = marks
        self.threads = threads or os.cpu_count() or 1
        self._session = _session(model_dir, threads=self.threads)

    def tokenize(self, texts: list[str]) -> list[list[int]]:
        """The ids of each text, marks included. Blocks, without the interpreter's lock."""
        return [found.ids for found in self._tokenizer.encode_batch_fast(texts)]

    def run(self, inputs: list[list[int]]) -> Vectors:
        """float32[n, dim] for inputs of one common length. Blocks, without the interpreter's lock."""
        ids = np.array(inputs, np.int64)
        vectors: Vectors = self._session.run([onnx_graph.OUTPUT], {onnx_graph.INPUT: ids})[0]
        return vectors


def _tokenizer(model_dir: Path) -> Tokenizer:
    path = model_dir / sentence_bert.TOKENIZER
    try:
        tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError) as error:
        raise ModelLoadFailed(f"{model_dir.name}/{path.name} can't be read.") from error
    except Exception as error:  # the library raises bare `Exception` for what it can't parse
        raise ModelLoadFailed(f"{model_dir.name}/{path.name} is not a tokenizer: {error}.") from error
    # The file may hold the settings of a training run; how long a text may be is for the caller to hear.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _session(model_dir: Path, *, threads: int) -> Any:
    path = onnx_graph.ensure(model_dir)
    try:
        return _open(path, threads=threads)
    except _UNREADABLE:
        path.unlink(missing_ok=True)  # derived, so a damaged one is made anew
    try:
        return _open(onnx_graph.ensure(model_dir), threads=threads)
    except _UNREADABLE as error:
        raise ModelLoadFailed(f"{model_dir.name}: onnxruntime refuses the model: {error}") from error


def _open(path: Path, *, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Threads that spin between two runs would take the cores from the engine beside us.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
