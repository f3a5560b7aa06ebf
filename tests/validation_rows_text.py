"""Rows of what only `/v1/completions` and `/v1/embeddings` have. Source: contract sections 1.6, 1.7, 9 and 11."""

from collections.abc import Iterator
from typing import Any

from tests.validation_rows import (
    ABSENT,
    EMBED,
    EMPTY,
    HIGH_INT,
    LONG_ARRAY,
    LOW_INT,
    MISSING,
    TEXT,
    TYPE,
    UNKNOWN,
    UNSUPPORTED,
    UNSUPPORTED_VALUE,
    VALUE,
    WINDOW,
    WITHIN,
    Row,
    Surface,
)
from tests.validation_rows_sampling import ANY_TEXT, INT64, VOCABULARY

EMBEDDING_VOCABULARY = 30_522
DIMENSIONS = 384
EMBEDDING_TOKENS = 510
"""The longest input of the embedded embedding model, without the two tokens around it."""
WINDOW_TOKENS = 8192
"""The context window of the embedded chat model."""


def _tokens(surface: Surface, field: str, *, vocabulary: int) -> Iterator[Row]:
    """Token ids instead of text, and lists that mix forms."""
    yield from surface.ok(field, [0], [5, 6], [[5]], [[5, 6], [7]], [vocabulary - 1], [5.0])
    yield from surface.ok(field, ["a"], ["a", "b"], "☃", ["a"] * 4)
    yield from surface.bad(field, EMPTY, [])
    cases: list[tuple[Any, str, str]] = [
        ([[]], EMPTY, "[0]"), ([[5], []], EMPTY, "[1]"),
        ([-1], LOW_INT, "[0]"), ([5, -1], LOW_INT, "[1]"), ([[5, -1]], LOW_INT, "[0][1]"), ([INT64], HIGH_INT, "[0]"),
        ([2**31], HIGH_INT, "[0]"), ([10**30], HIGH_INT, "[0]"),
        ([1.5], TYPE, "[0]"), ([True], TYPE, "[0]"), ([None], TYPE, "[0]"), ([{}], TYPE, "[0]"),
        ([5, "a"], TYPE, "[1]"), (["a", 5], TYPE, "[1]"), (["a", None], TYPE, "[1]"), (["a", ["b"]], TYPE, "[1]"),
        ([[5], 6], TYPE, "[1]"), ([[5], "a"], TYPE, "[1]"), ([["a"]], TYPE, "[0][0]"), ([[1.5]], TYPE, "[0][0]"),
        ([[True]], TYPE, "[0][0]"), ([[None]], TYPE, "[0][0]"), ([[[5]]], TYPE, "[0][0]"),
    ]  # fmt: skip
    yield from surface.each(field, cases)
    yield from surface.types(field, "text", "array")
    for beyond in ([vocabulary], [5, vocabulary], [[vocabulary]], [2**31 - 1]):
        yield from surface.bad(field, VALUE, beyond, param=field + WITHIN)


def _prompt() -> Iterator[Row]:
    yield from _tokens(TEXT, "prompt", vocabulary=VOCABULARY)
    yield from TEXT.bad("prompt", MISSING, ABSENT)
    yield from TEXT.ok("prompt", None, "", [""], "<|endoftext|>")
    yield from TEXT.ok("prompt", None, stream=True)
    yield from TEXT.ok("prompt", ["a", "b"], n=2)
    yield from TEXT.bad("prompt", WINDOW, "a b " * 10_000, ["a", "a b " * 10_000], [5] * 40_000)
    yield from TEXT.ok("prompt", [5], max_tokens=WINDOW_TOKENS - 1, stop=ANY_TEXT, temperature=0)
    yield from TEXT.bad("prompt", WINDOW, [5], max_tokens=WINDOW_TOKENS, stop=ANY_TEXT)
    yield from TEXT.bad("prompt", WINDOW, [5] * WINDOW_TOKENS, [[5], [5] * WINDOW_TOKENS])


def _candidates() -> Iterator[Row]:
    name = "best_of"
    yield from TEXT.ok(name, 1, 2, 20, None, ABSENT, 2.0)
    yield from TEXT.ok(name, 128, temperature=0)
    yield from TEXT.ok(name, 2, 3, n=2)
    yield from TEXT.ok(name, 0, None, ABSENT, n=1)
    yield from TEXT.bad(name, LOW_INT, -1, -INT64)
    yield from TEXT.bad(name, HIGH_INT, 129, INT64, 10**30)
    yield from TEXT.bad(name, VALUE, 0, 1, n=2)
    yield from TEXT.bad(name, VALUE, 127, n=128)
    yield from TEXT.bad(name, VALUE, 2, 20, stream=True)
    yield from TEXT.bad(name, VALUE, 2, n=2, stream=True)
    yield from TEXT.ok(name, 1, None, stream=True)
    yield from TEXT.types(name, "integer")


def _probabilities() -> Iterator[Row]:
    name = "logprobs"
    yield from TEXT.ok(name, 0, 1, 5, None, ABSENT, 2.0)
    yield from TEXT.ok(name, 0, 2, echo=True)
    yield from TEXT.ok(name, 2, echo=True, max_tokens=0)
    yield from TEXT.ok(name, 2, stream=True)
    yield from TEXT.bad(name, LOW_INT, -1, -INT64)
    yield from TEXT.bad(name, HIGH_INT, 6, 20, INT64)
    yield from TEXT.bad(name, TYPE, False)
    yield from TEXT.types(name, "integer")
    yield from TEXT.bad("top_logprobs", UNKNOWN, 2)


def _others() -> Iterator[Row]:
    yield from TEXT.ok("echo", True, False)
    yield from TEXT.ok("echo", True, max_tokens=0)
    yield from TEXT.ok("echo", True, stream=True)
    yield from TEXT.ok("echo", True, prompt=["a", "b"], n=2)
    yield from TEXT.bad("echo", TYPE, 0, "true")
    yield from TEXT.types("echo", "boolean")
    yield from TEXT.optional("echo")
    yield from TEXT.ok("suffix", "")
    yield from TEXT.bad("suffix", UNSUPPORTED, "a", " ", "☃")
    yield from TEXT.types("suffix", "text")
    yield from TEXT.optional("suffix")
    for name, value in {
        "messages": [], "tools": [], "tool_choice": "none", "functions": [], "response_format": {"type": "text"},
        "modalities": ["text"], "store": False, "metadata": {}, "service_tier": "auto", "reasoning_effort": "low",
        "parallel_tool_calls": True, "encoding_format": "float",
    }.items():  # fmt: skip
        yield from TEXT.bad(name, UNKNOWN, value, None)


def _input() -> Iterator[Row]:
    name = "input"
    yield from _tokens(EMBED, name, vocabulary=EMBEDDING_VOCABULARY)
    yield from EMBED.required(name)
    yield from EMBED.ok(name, "a", " ", "x" * 200, ["a", "a"])
    yield from EMBED.bad(name, VALUE, "")
    yield from EMBED.each(name, [([""], VALUE, "[0]"), (["a", ""], VALUE, "[1]")])
    yield from EMBED.ok(name, ["a"] * 2048, [[5]] * 2048)
    yield from EMBED.bad(name, LONG_ARRAY, ["a"] * 2049, [[5]] * 2049, [5] * 2049)
    yield from EMBED.bad(name, LONG_ARRAY, [[5] * 2049], param="input[0]")
    yield from EMBED.bad(name, LONG_ARRAY, [[5], [5] * 2049], param="input[1]")
    long = ("a b " * 5_000, ["a", "a b " * 5_000], [5] * 2048, [[5] * 2048], [[5], [5] * 2048])
    yield from EMBED.bad(name, WINDOW, *long)
    yield from EMBED.ok(name, [5] * EMBEDDING_TOKENS, [[5], [5] * EMBEDDING_TOKENS])
    yield from EMBED.bad(name, WINDOW, [5] * (EMBEDDING_TOKENS + 1), [[5], [5] * (EMBEDDING_TOKENS + 1)])


def _vectors() -> Iterator[Row]:
    name = "dimensions"
    yield from EMBED.ok(name, 1, 2, DIMENSIONS - 1, DIMENSIONS, 8.0)
    yield from EMBED.ok(name, 1, DIMENSIONS, encoding_format="base64")
    yield from EMBED.bad(name, LOW_INT, 0, -1, -INT64)
    yield from EMBED.bad(name, HIGH_INT, DIMENSIONS + 1, 10**6, INT64, 10**30)
    yield from EMBED.types(name, "integer")
    yield from EMBED.optional(name)
    name = "encoding_format"
    yield from EMBED.ok(name, "float", "base64")
    yield from EMBED.bad(name, VALUE, "", "int8", "Float", "base64 ", "b64_json")
    yield from EMBED.types(name, "text")
    yield from EMBED.optional(name)
    yield from EMBED.ok("user", "", "user-123", "☃", "x" * 1000)
    yield from EMBED.types("user", "text")
    yield from EMBED.optional("user")
    yield from EMBED.required("model")
    yield from EMBED.types("model", "text")
    yield from EMBED.bad("model", VALUE, "")
    unknown = ("text-embedding-3-small", "all-MiniLM-L6-v2", "all-minilm-l6-v2 ")
    yield from EMBED.bad("model", "model_not_found", *unknown, status=404)
    yield from EMBED.bad("model", UNSUPPORTED_VALUE, "smollm2-135m-instruct")


def _unknown() -> Iterator[Row]:
    for name in (
        "zzz",
        "",
        "Input",
        "DIMENSIONS",
        "prompt",
        "messages",
        "n",
        "stream",
        "temperature",
        "max_tokens",
        "stop",
    ):
        yield from EMBED.bad(name, UNKNOWN, 1, None)


def rows() -> Iterator[Row]:
    for part in (_prompt, _candidates, _probabilities, _others, _input, _vectors, _unknown):
        yield from part()
