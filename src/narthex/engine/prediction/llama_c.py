"""llama.cpp's C interface, as far as checking predicted tokens needs it: one model, one context, one sequence.

Source: llama.cpp, include/llama.h. Structures that go by value are not spelled out, because they grow with each
version: llama.cpp fills in its defaults, and what is changed in them is found by their values (`_Defaults`).
"""

import codecs
import ctypes
import importlib.util
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from narthex.core.errors import ModelLoadFailed

_MOST_BYTES = 512
"""More than any of its structures of parameters has."""
_LONGEST_PIECE = 256
_CONTEXT = (512, 2048, 512, 1)
"""How the defaults of a context begin: tokens, tokens of a batch, of a part of one, sequences."""


class _Parameters(ctypes.Structure):
    _fields_ = [("words", ctypes.c_uint32 * (_MOST_BYTES // 4))]  # type: ignore[mutable-override]


class _Batch(ctypes.Structure):
    _fields_ = [  # type: ignore[mutable-override]
        ("n_tokens", ctypes.c_int32),
        ("token", ctypes.POINTER(ctypes.c_int32)),
        ("embd", ctypes.POINTER(ctypes.c_float)),
        ("pos", ctypes.POINTER(ctypes.c_int32)),
        ("n_seq_id", ctypes.POINTER(ctypes.c_int32)),
        ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
        ("logits", ctypes.POINTER(ctypes.c_int8)),
    ]


class _ChainParameters(ctypes.Structure):
    _fields_ = [("no_perf", ctypes.c_bool)]  # type: ignore[mutable-override]


_Log = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
_silent = _Log(lambda _level, _text, _data: None)

_P, _I, _F = ctypes.c_void_p, ctypes.c_int32, ctypes.c_float
_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "llama_backend_init": (None, ()),
    "llama_log_set": (None, (_Log, _P)),
    "llama_model_default_params": (_Parameters, ()),
    "llama_context_default_params": (_Parameters, ()),
    "llama_model_load_from_file": (_P, (ctypes.c_char_p, _Parameters)),
    "llama_model_is_recurrent": (ctypes.c_bool, (_P,)),
    "llama_model_is_hybrid": (ctypes.c_bool, (_P,)),
    "llama_model_has_encoder": (ctypes.c_bool, (_P,)),
    "llama_model_n_swa": (_I, (_P,)),
    "llama_model_get_vocab": (_P, (_P,)),
    "llama_vocab_n_tokens": (_I, (_P,)),
    "llama_vocab_is_eog": (ctypes.c_bool, (_P, _I)),
    "llama_token_to_piece": (_I, (_P, _I, ctypes.c_char_p, _I, _I, ctypes.c_bool)),
    "llama_init_from_model": (_P, (_P, _Parameters)),
    "llama_free": (None, (_P,)),
    "llama_n_ctx": (ctypes.c_uint32, (_P,)),
    "llama_get_memory": (_P, (_P,)),
    "llama_memory_seq_rm": (ctypes.c_bool, (_P, _I, _I, _I)),
    "llama_state_seq_get_size": (ctypes.c_size_t, (_P, _I)),
    "llama_state_seq_get_data": (ctypes.c_size_t, (_P, _P, ctypes.c_size_t, _I)),
    "llama_state_seq_set_data": (ctypes.c_size_t, (_P, _P, ctypes.c_size_t, _I)),
    "llama_batch_init": (_Batch, (_I, _I, _I)),
    "llama_decode": (_I, (_P, _Batch)),
    "llama_get_logits_ith": (ctypes.POINTER(_F), (_P, _I)),
    "llama_sampler_chain_init": (_P, (_ChainParameters,)),
    "llama_sampler_chain_add": (None, (_P, _P)),
    "llama_sampler_init_temp": (_P, (_F,)),
    "llama_sampler_init_min_p": (_P, (_F, ctypes.c_size_t)),
    "llama_sampler_init_top_k": (_P, (_I,)),
    "llama_sampler_init_top_p": (_P, (_F, ctypes.c_size_t)),
    "llama_sampler_init_dist": (_P, (ctypes.c_uint32,)),
    "llama_sampler_sample": (_I, (_P, _P, _I)),
    "llama_sampler_free": (None, (_P,)),
}


class _Library:
    """The functions of the shared object that the engine is in."""

    def __init__(self) -> None:
        spec = importlib.util.find_spec("xllamacpp")
        folder = Path(spec.origin).parent if spec is not None and spec.origin else Path()
        try:
            library = ctypes.CDLL(str(next(folder.glob("*.so"))))
            for name, (result, arguments) in _SIGNATURES.items():
                function = getattr(library, name)
                function.restype, function.argtypes = result, arguments
                setattr(self, name, function)
        except (StopIteration, OSError, AttributeError) as error:
            raise ModelLoadFailed(f"llama.cpp has not the functions that checking predictions needs: {error}") from None

    def __getattr__(self, name: str) -> Callable[..., Any]:
        raise AttributeError(name)


class _Defaults:
    """What llama.cpp says of its parameters, and where in them is what we set.

    Raises:
        ModelLoadFailed: they look otherwise than we know them: another version, to which nothing is passed.
    """

    def __init__(self, library: _Library) -> None:
        self.model = library.llama_model_default_params()
        self.context = library.llama_context_default_params()
        words = list(self.context.words)
        cores = [at for at in range(4, 10) if words[at] == words[at + 1] > 1]
        if tuple(words[:4]) != _CONTEXT or len(cores) != 1 or list(self.model.words[:5]) != [0, 0, 0, 0, 2**32 - 1]:
            raise ModelLoadFailed("llama.cpp's parameters are not those of the version that we know.")
        self._threads = cores[0]

    def context_of(self, *, tokens: int, batch: int, threads: int) -> _Parameters:
        made = _Parameters.from_buffer_copy(self.context)
        made.words[0], made.words[1], made.words[2] = tokens, batch, batch
        made.words[self._threads] = made.words[self._threads + 1] = threads
        return made

    def model_of(self, *, gpu_layers: int) -> _Parameters:
        made = _Parameters.from_buffer_copy(self.model)
        made.words[4] = gpu_layers
        return made


class Sampler:
    """Chooses tokens as the engine does (`sampling_body`): temperature, what is left out, nucleus, a seeded draw."""

    def __init__(
        self, library: _Library, *, temperature: float, min_p: float, top_k: int, top_p: float, seed: int
    ) -> None:
        self._library = library
        self._chain = library.llama_sampler_chain_init(_ChainParameters(no_perf=True))
        parts = [library.llama_sampler_init_temp(temperature)]
        parts += [library.llama_sampler_init_min_p(min_p, 0)] if min_p else []
        parts += [library.llama_sampler_init_top_k(top_k)] if top_k else []
        parts += [library.llama_sampler_init_top_p(top_p, 0), library.llama_sampler_init_dist(seed)]
        for part in parts:
            library.llama_sampler_chain_add(self._chain, part)

    def choose(self, context: int, row: int) -> int:
        """The token after the one at a place of a context's last batch."""
        return int(self._library.llama_sampler_sample(self._chain, context, row))

    def close(self) -> None:
        """Free it."""
        self._library.llama_sampler_free(self._chain)


class Model:
    """One model in memory. Blocks while it loads; lives as long as the process.

    Raises:
        ModelLoadFailed: it can't be loaded, or it is of a kind whose sequences can't be taken back token by token.
    """

    def __init__(self, path: Path, *, gpu_layers: int, batch: int, threads: int) -> None:
        self.library = library = _Library()
        defaults = _Defaults(library)
        library.llama_log_set(_silent, None)
        library.llama_backend_init()
        self._model = library.llama_model_load_from_file(os.fsencode(path), defaults.model_of(gpu_layers=gpu_layers))
        if not self._model:
            raise ModelLoadFailed(f"llama.cpp could not load the model {path.name}.")
        kinds = (library.llama_model_is_recurrent, library.llama_model_is_hybrid, library.llama_model_has_encoder)
        if any(kind(self._model) for kind in kinds) or library.llama_model_n_swa(self._model) > 0:
            raise ModelLoadFailed("Predictions can't be checked with a model of this kind.")
        self._vocabulary = library.llama_model_get_vocab(self._model)
        self.tokens = int(library.llama_vocab_n_tokens(self._vocabulary))
        self.batch = batch
        self._threads = threads
        self._defaults = defaults

    def context(self, tokens: int) -> int:
        """Room for so many tokens, as a handle. Raises `MemoryError`."""
        parameters = self._defaults.context_of(tokens=tokens, batch=self.batch, threads=self._threads)
        made = self.library.llama_init_from_model(self._model, parameters)
        if not made:
            raise MemoryError
        return int(made)

    def ends(self, token: int) -> bool:
        """Whether a text ends with this token."""
        return bool(self.library.llama_vocab_is_eog(self._vocabulary, token))

    def spelled(self, token: int) -> bytes:
        """What it adds to a text; nothing for a control token."""
        buffer = ctypes.create_string_buffer(_LONGEST_PIECE)
        length = self.library.llama_token_to_piece(self._vocabulary, token, buffer, _LONGEST_PIECE, 0, False)  # noqa: FBT003
        return buffer.raw[: max(0, length)]


class Speller:
    """The text of tokens, whole characters at a time."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def text(self, tokens: Sequence[int], *, last: bool) -> str:
        """What they add; `last`: what is left of a character is told too."""
        return self._decoder.decode(b"".join(map(self._model.spelled, tokens)), last)


class Text:
    """One text in the model's context, which grows with it. Not safe for two threads. Close it with `close`."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._library = model.library
        self._context = 0
        self._room = 0
        self._batch = self._library.llama_batch_init(model.batch, 0, 1)
        self.tokens: list[int] = []

    @property
    def context(self) -> int:
        """The context's handle, for a sampler."""
        return self._context

    def feed(self, tokens: Sequence[int], *, rows: bool) -> None:
        """Append at most a batch of tokens. `rows`: each one's logits are wanted, not only the last one's.

        Raises:
            MemoryError: there is no room for them.
            RuntimeError: the model failed.
        """
        start = len(self.tokens)
        self._make_room(start + len(tokens))
        batch = self._batch
        batch.n_tokens = len(tokens)
        for at, token in enumerate(tokens):
            batch.token[at], batch.pos[at], batch.n_seq_id[at], batch.seq_id[at][0] = token, start + at, 1, 0
            batch.logits[at] = rows or at == len(tokens) - 1
        if self._library.llama_decode(self._context, batch) != 0:
            self.close()
            raise RuntimeError("llama.cpp could not go on with a text")
        self.tokens += tokens

    def keep(self, count: int) -> None:
        """Take back all tokens after the first `count`."""
        if count < len(self.tokens):
            memory = self._library.llama_get_memory(self._context)
            if not self._library.llama_memory_seq_rm(memory, 0, count, -1):
                raise RuntimeError("llama.cpp could not take tokens back")
            del self.tokens[count:]

    def logits(self, row: int) -> NDArray[np.float32]:
        """Of the token that `feed` got at this place; valid until it is called again."""
        return np.ctypeslib.as_array(self._library.llama_get_logits_ith(self._context, row), (self.model.tokens,))

    def close(self) -> None:
        """Free the context and forget the text. It can be used anew."""
        if self._context:
            self._library.llama_free(self._context)
        self._context = self._room = 0
        self.tokens = []

    def _make_room(self, tokens: int) -> None:
        """A larger context gets what the smaller one holds."""
        if tokens <= self._room:
            return
        room = max(1024, 1 << (tokens + tokens // 4 - 1).bit_length())
        larger = self.model.context(room)
        if self.tokens:
            size = self._library.llama_state_seq_get_size(self._context, 0)
            state = ctypes.create_string_buffer(size)
            self._library.llama_state_seq_get_data(self._context, state, size, 0)
            self._library.llama_state_seq_set_data(larger, state, size, 0)
        if self._context:
            self._library.llama_free(self._context)
        self._context, self._room = larger, room
