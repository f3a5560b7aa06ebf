"""The two programs that read our grammars, driven byte by byte: llguidance as a package, which compiles at the edge,
and the older one inside the engine's library, which generates.
"""

import ctypes
import importlib.util
from collections.abc import Callable
from ctypes import POINTER, Structure, byref, c_bool, c_char_p, c_int32, c_size_t, c_uint8, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import Any, Protocol

import llguidance

EOS = 256


class Matcher(Protocol):
    """One grammar and how far a text has come in it."""

    def allowed(self) -> list[int]:
        """Bytes that may come next, and EOS."""

    def consume(self, token: int) -> None: ...

    def accepts(self, text: bytes) -> bool:
        """Whether a whole text, from the start, is generated."""


def _start(rule: str) -> str:
    return f"%llguidance {{}}\nstart: {rule}"


class Package:
    """llguidance, the package."""

    _tokenizer = llguidance.LLTokenizer("byte")

    def __init__(self, rule: str) -> None:
        self._matcher = llguidance.LLMatcher(self._tokenizer, _start(rule), log_level=0)
        assert not self._matcher.is_error(), self._matcher.get_error()

    def allowed(self) -> list[int]:
        mask = self._matcher.compute_bitmask()
        assert not self._matcher.is_error(), self._matcher.get_error()
        end = [EOS] if self._matcher.is_accepting() else []
        return [token for token in range(256) if mask[token >> 3] >> (token & 7) & 1] + end

    def consume(self, token: int) -> None:
        assert self._matcher.consume_token(token)

    def accepts(self, text: bytes) -> bool:
        taken = self._matcher.try_consume_tokens(list(text))
        return taken == len(text) and self._matcher.is_accepting()


class _Limits(Structure):
    _fields_ = [
        ("max_items_in_row", c_size_t),
        ("initial_lexer_fuel", c_uint64),
        ("step_lexer_fuel", c_uint64),
        ("step_max_items", c_size_t),
        ("max_lexer_states", c_size_t),
        ("max_grammar_size", c_size_t),
        ("precompute_large_lexemes", c_bool),
    ]


class _Init(Structure):
    _fields_ = [
        ("tokenizer", c_void_p),
        ("log_buffer_level", c_uint32),
        ("log_stderr_level", c_uint32),
        ("ff_tokens_ok", c_bool),
        ("backtrack_ok", c_bool),
        ("limits", _Limits),
        ("spare", c_uint64 * 8),  # for fields of later versions
    ]


class _TokenizerInit(Structure):
    _fields_ = [
        ("vocab_size", c_uint32),
        ("tok_eos", c_uint32),
        ("token_lens", POINTER(c_uint32)),
        ("token_bytes", POINTER(c_uint8)),
        ("tokenizer_json", c_char_p),
        ("tokenize_assumes_string", c_bool),
        ("tokenize_fn", c_void_p),
        ("use_approximate_greedy_tokenize_fn", c_bool),
        ("tokenize_user_data", c_void_p),
        ("slices", c_void_p),
        ("spare", c_uint64 * 8),
    ]


_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "llg_new_tokenizer": (c_void_p, [c_void_p, c_char_p, c_size_t]),
    "llg_constraint_init_set_defaults": (None, [c_void_p, c_void_p]),
    "llg_new_matcher": (c_void_p, [c_void_p, c_char_p, c_char_p]),
    "llg_free_matcher": (None, [c_void_p]),
    "llg_matcher_get_error": (c_char_p, [c_void_p]),
    "llg_matcher_is_error": (c_bool, [c_void_p]),
    "llg_matcher_is_accepting": (c_bool, [c_void_p]),
    "llg_matcher_compute_mask": (c_int32, [c_void_p]),
    "llg_matcher_get_mask": (POINTER(c_uint32), [c_void_p]),
    "llg_matcher_consume_token": (c_int32, [c_void_p, c_uint32]),
    "llg_matcher_consume_tokens": (c_int32, [c_void_p, c_void_p, c_size_t]),
    "llg_matcher_validate_tokens": (c_int32, [c_void_p, c_void_p, c_size_t]),
}


class _Library:
    """The engine's library, loaded once."""

    def __init__(self) -> None:
        found = importlib.util.find_spec("xllamacpp")
        assert found is not None
        assert found.origin is not None
        self.calls = ctypes.CDLL(str(next(Path(found.origin).parent.glob("xllamacpp*.so"))))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(self.calls, name)
            function.restype, function.argtypes = result, arguments
        lengths = (c_uint32 * 257)(*[1] * 256, 6)
        letters = (c_uint8 * 262)(*range(256), *b"\xff<eos>")  # 0xff marks what is not text
        setup = _TokenizerInit(vocab_size=257, tok_eos=EOS, token_lens=lengths, token_bytes=letters)
        setup.use_approximate_greedy_tokenize_fn = True
        tokenizer = self.calls.llg_new_tokenizer(byref(setup), ctypes.create_string_buffer(500), 500)
        assert tokenizer
        self.init = _Init()
        self.calls.llg_constraint_init_set_defaults(byref(self.init), tokenizer)
        self.init.log_stderr_level = 0


class Engine:
    """llguidance as the engine has it, with the engine's limits."""

    _library: _Library | None = None

    def __init__(self, rule: str) -> None:
        if Engine._library is None:
            Engine._library = _Library()
        self._calls = Engine._library.calls
        self._matcher = self._calls.llg_new_matcher(byref(Engine._library.init), b"lark", _start(rule).encode())
        assert not self._calls.llg_matcher_is_error(self._matcher), self.error

    @property
    def error(self) -> str:
        return (self._calls.llg_matcher_get_error(self._matcher) or b"").decode()

    def allowed(self) -> list[int]:
        assert self._calls.llg_matcher_compute_mask(self._matcher) == 0, self.error
        mask = self._calls.llg_matcher_get_mask(self._matcher)
        return [token for token in range(257) if mask[token >> 5] >> (token & 31) & 1]

    def consume(self, token: int) -> None:
        assert self._calls.llg_matcher_consume_token(self._matcher, token) == 0, self.error

    def accepts(self, text: bytes) -> bool:
        tokens = (c_uint32 * len(text))(*text)
        if self._calls.llg_matcher_validate_tokens(self._matcher, tokens, len(text)) < len(text):
            return False
        assert self._calls.llg_matcher_consume_tokens(self._matcher, tokens, len(text)) == 0, self.error
        return bool(self._calls.llg_matcher_is_accepting(self._matcher))

    def __del__(self) -> None:
        if hasattr(self, "_matcher"):
            self._calls.llg_free_matcher(self._matcher)


ENGINES: tuple[Callable[[str], Matcher], ...] = (Package, Engine)
