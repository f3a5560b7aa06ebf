"""The network: phonemes in, samples out. All of it blocks.

Source: kokoro-onnx 0.5 (MIT), for the names and forms of the graph's inputs and of the file of voices.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from narthex.core.errors import ModelLoadFailed
from narthex.core.speech import RATE
from narthex.engine.speech.kokoro.phonemes import MOST, tokens
from narthex.engine.speech.pcm import Samples, Stretcher, written

_STYLE = 256
_FORMS = ({"tokens", "style", "speed"}, {"input_ids", "style", "speed"})
_FASTEST, _SLOWEST = 2.0, 0.5
"""What it was trained to; the rest is brought about by stretching."""
_FRAME = RATE // 50
_QUIET = 1e-3
"""Of the loudest: what is silence at both ends."""
_PAUSE = RATE // 6
"""After each run: they are sentences."""
_LOUDEST = 32_767


class Model:
    """One graph and its voices."""

    def __init__(self, model: Path, voices: Path, *, named: Mapping[str, str], threads: int) -> None:
        """Raises:
        ModelLoadFailed: the files are not there, or not what they should be. Callers read it: it names no folder.
        """
        self._voices = _voices(voices, named)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        # Threads that spin between two runs would take the cores from the engine beside us.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ModelLoadFailed(f"{model.name} can't be loaded: it is not there, damaged, or no graph.") from error
        inputs = {each.name: each.type for each in self._session.get_inputs()}
        if inputs.keys() not in _FORMS:
            raise ModelLoadFailed(f"{model.name} takes {', '.join(inputs)}: it is no Kokoro.")
        (self._tokens,) = inputs.keys() - {"style", "speed"}
        self._paces = "float" in inputs["speed"]

    def speak(self, phonemes: str, *, voice: str, speed: float, options: Any = None) -> bytes:
        """Samples as `core.speech` has them. `options`: the runtime's own; their `terminate` stops it."""
        ids = tokens(phonemes)[:MOST]
        paced = min(_FASTEST, max(_SLOWEST, speed)) if self._paces else 1.0
        told = self._session.run(
            None,
            {
                self._tokens: np.array([[0, *ids, 0]], np.int64),
                "style": self._voices[voice][len(ids)],
                "speed": np.array([paced], np.float32 if self._paces else np.int32),
            },
            options,
        )[0]
        samples = _trimmed(np.nan_to_num(np.asarray(told, np.float32).reshape(-1)))
        if speed != paced:
            stretcher = Stretcher(paced / speed)
            samples = np.concatenate((stretcher.feed(samples), stretcher.end()))
        return written(np.concatenate((samples * _LOUDEST, np.zeros(_PAUSE, np.float32))))


def _voices(path: Path, named: Mapping[str, str]) -> dict[str, Samples]:
    """By the documented names, each the styles for so many phonemes: float32[n > MOST, 1, 256]."""
    found = {}
    try:
        with np.load(path, allow_pickle=False) as file:
            for name, own in named.items():
                if own not in file:
                    raise ModelLoadFailed(f"{path.name} has no voice '{own}': it has {', '.join(file)[:500]}.")
                found[name] = np.asarray(file[own], np.float32).reshape(-1, 1, _STYLE)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelLoadFailed(f"{path.name} is no file of voices.") from error
    for name, styles in found.items():
        if len(styles) <= MOST:
            raise ModelLoadFailed(f"{path.name} has no styles of all lengths for '{named[name]}'.")
    return found


def _trimmed(samples: Samples) -> Samples:
    """Without the silence at both ends."""
    whole = len(samples) // _FRAME * _FRAME
    loud = np.abs(samples[:whole]).reshape(-1, _FRAME).max(axis=1, initial=0.0)
    (heard,) = np.nonzero(loud > _QUIET * loud.max(initial=0.0))
    if not len(heard):
        return samples
    kept: Samples = samples[max(0, heard[0] - 1) * _FRAME : (heard[-1] + 2) * _FRAME]
    return kept
