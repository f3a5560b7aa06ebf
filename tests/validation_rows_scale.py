"""What Scale's API takes otherwise than `/v1`: contract sections 4.2, 4.3, 4.9 and 11."""

from collections.abc import Iterator
from typing import Any

from tests.server_process import CHAT_MODEL
from tests.validation_rows import (
    ABSENT,
    EMPTY,
    HELLO,
    HIGH_INT,
    LONG_ARRAY,
    LOW_INT,
    MISSING,
    TYPE,
    UNKNOWN,
    UNSUPPORTED,
    UNSUPPORTED_VALUE,
    VALUE,
    Row,
    Surface,
)

CHAT = Surface("/v4/beta/chat/completions", {"model": CHAT_MODEL, "messages": HELLO, "max_tokens": 1})
TEXT = Surface("/v4/beta/completions", {"model": CHAT_MODEL, "prompt": "Hello", "max_tokens": 1})
UNLIMITED = Surface(TEXT.path, {"model": CHAT_MODEL, "prompt": "Hello"})
VOICE = {"voice": "alloy", "format": "wav"}
SAID: dict[str, Any] = {"role": "assistant", "content": "Hello."}
CALL = {"id": "c", "type": "function", "function": {"name": "look"}}
RESULT = {"role": "tool", "content": "4", "tool_call_id": "c"}
TOOL = {"type": "function", "function": {"name": "look"}}
SPEAKS: Any = {"role": "assistant", "audio": {"id": "a", "data": "", "expires_at": 1, "transcript": "Hi"}}
SEEN = {"type": "image_url", "image_url": {"url": "iVBORw0KGgo=", "media_type": "image/png"}}
NOT_KNOWN = ("store", "metadata", "service_tier", "functions", "function_call", "reasoning_effort")


def rows() -> Iterator[Row]:
    """All of them."""
    yield from _chats()
    yield from _messages()
    yield from _texts()


def _chats() -> Iterator[Row]:
    yield from CHAT.optional("seed")
    yield from CHAT.ok("seed", -1, 0, 7)
    yield from CHAT.types("seed", "integer")
    yield from CHAT.optional("audio")
    yield from CHAT.ok("audio", VOICE)
    yield from CHAT.bad("audio", VALUE, VOICE | {"format": "aac"}, param="audio.format")
    yield from CHAT.bad("audio", TYPE, VOICE | {"voice": {"id": "v"}}, param="audio.voice")
    yield from CHAT.bad("audio", MISSING, {"voice": "alloy"}, param="audio.format")
    yield from CHAT.ok("stream", True)
    for name in NOT_KNOWN:
        yield from CHAT.bad(name, UNKNOWN, None, "x")
        yield from CHAT.of("lenient").ok(name, "x")
    yield from CHAT.bad("suffix", UNSUPPORTED, "end")
    yield from CHAT.of("oxy").ok("n", 3)


def _messages() -> Iterator[Row]:
    yield from CHAT.required("messages")
    yield from CHAT.bad("messages", EMPTY, [])
    called: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None, "function_call": None}
    yield from CHAT.ok(
        "messages",
        [{"role": "user", "content": {"type": "text", "text": "Hi"}}],
        [*HELLO, SAID | {"refusal": None, "tool_calls": None, "function_call": None, "audio": None}],
        [HELLO[0] | {"tool_calls": [], "function_call": {}, "audio": {}}],
        [*HELLO, called | {"tool_calls": [CALL]}, RESULT],
        [*HELLO, called | {"tool_calls": [CALL | {"function": {"name": "look", "type": "function"}}]}, RESULT],
    )
    for message, code, place in (
        ({"content": "Hi"}, MISSING, ".role"),
        (HELLO[0] | {"tool_calls": [CALL]}, VALUE, ".tool_calls"),
        (HELLO[0] | {"mood": None}, UNKNOWN, ".mood"),
        (SAID | {"tool_calls": [CALL | {"function": {}}]}, MISSING, ".tool_calls[0].function.name"),
        (SPEAKS, UNSUPPORTED_VALUE, ".audio"),
        ({"role": "user", "content": SEEN}, UNSUPPORTED_VALUE, ".content[0]"),
    ):
        yield from CHAT.bad("messages", code, [message, *HELLO], param=f"messages[0]{place}")


def _texts() -> Iterator[Row]:
    yield from TEXT.required("prompt")
    yield from TEXT.types("prompt", "text")
    yield from TEXT.optional("seed")
    yield from TEXT.ok("seed", -1)
    yield from TEXT.bad("seed", TYPE, "1")
    for name in ("max_new_tokens", "max_completion_tokens"):
        yield from UNLIMITED.ok(name, 0, 1)
        yield from TEXT.optional(name)
        yield from UNLIMITED.types(name, "integer")
        yield from UNLIMITED.bad(name, LOW_INT, -1)
        yield from TEXT.bad(name, VALUE, 1, max_tokens=1)
    yield from TEXT.optional("stop_sequences")
    yield from TEXT.ok("stop_sequences", [], ["a"], list("abcd"))
    yield from TEXT.types("stop_sequences", "array")
    yield from TEXT.bad("stop_sequences", VALUE, [""], param="stop_sequences[0]")
    yield from TEXT.bad("stop_sequences", LONG_ARRAY, list("abcde"))
    yield from TEXT.bad("stop_sequences", VALUE, ["a"], stop="a")
    for name in ("logprobs", "return_token_log_probs"):
        yield from TEXT.optional(name)
        yield from TEXT.ok(name, True, False)
        yield from TEXT.types(name, "boolean")
        yield from TEXT.ok("top_logprobs", 0, 20, **{name: True})
    yield from TEXT.optional("top_logprobs")
    yield from TEXT.bad("top_logprobs", VALUE, 1, logprobs=ABSENT)
    yield from TEXT.bad("top_logprobs", HIGH_INT, 21, logprobs=True)
    yield from TEXT.ok("stream", True, logprobs=True)
    yield from _refused_texts()


def _refused_texts() -> Iterator[Row]:
    """What means something for chats only."""
    for name, value, nothing in (
        ("audio", VOICE, None),
        ("modalities", ["text", "audio"], ["text"]),
        ("parallel_tool_calls", True, None),
        ("prediction", {"type": "content", "content": "x"}, None),
        ("response_format", {"type": "json_object"}, {"type": "text"}),
        ("tools", [TOOL], None),
        ("tool_choice", "auto", "none"),
    ):
        yield from TEXT.optional(name)
        yield from TEXT.bad(name, UNSUPPORTED, value)
        yield from TEXT.ok(name, nothing, seed=1)
    for name in ("memory_strategy", "chat_template", "guided_decoding_backend", "messages", "metadata"):
        yield from TEXT.bad(name, UNKNOWN, None, "x")
