"""Rows of the fields that chat and text completions share. Source: contract sections 1.2, 1.6, 7.1, 9 and 11."""

from collections.abc import Iterator
from typing import Any

from tests.server_process import SLASHED
from tests.validation_rows import (
    ABSENT,
    ANY,
    CHAT,
    EMPTY,
    HIGH,
    HIGH_INT,
    LONG_ARRAY,
    LONG_TEXT,
    LOW,
    LOW_INT,
    MISSING,
    TEXT,
    TYPE,
    UNKNOWN,
    UNSUPPORTED,
    UNSUPPORTED_VALUE,
    VALUE,
    WINDOW,
    Row,
    Surface,
)
from tests.validation_rows_tools import tool

BOTH = {CHAT: "messages", TEXT: "prompt"}
"""Each surface and where its prompt stands."""
SEED_END = 9_223_372_036_854_776_000
INT64 = 2**63 - 1
VOCABULARY = 49_152
ANY_TEXT = ["a", "e", "i", "."]


def _numbers(surface: Surface) -> Iterator[Row]:
    for name, low, high in (
        ("temperature", 0, 2),
        ("frequency_penalty", -2, 2),
        ("presence_penalty", -2, 2),
    ):
        yield from surface.ok(name, low, high, float(low), float(high), (low + high) / 2 + 0.25, -0.0, 1e-9)
        yield from surface.bad(name, LOW, low - 0.1, low - 1e-9, low - 1000)
        yield from surface.bad(name, HIGH, high + 0.1, high + 1e-9, high + 1000, 1e300)
        yield from surface.types(name, "integer", "decimal")
        yield from surface.optional(name)
        yield from surface.bad(name, None, float("nan"), float("inf"), float("-inf"), param=None)
        yield from surface.bad(name, ANY, 10**30)
    yield from surface.ok("temperature", 1e-6, 0.001, 0.01)
    yield from surface.ok("top_p", 0, 1, 0.0, 1.0, 0.5, 1e-9, -1, -1.0)
    yield from surface.bad("top_p", LOW, -0.1, -0.999, -1.1, -2)
    yield from surface.bad("top_p", HIGH, 1.1, 1 + 1e-9, 2, 1e300)
    yield from surface.types("top_p", "integer", "decimal")
    yield from surface.optional("top_p")
    yield from surface.bad("top_p", None, float("nan"), float("inf"), param=None)


def _integers(surface: Surface) -> Iterator[Row]:
    yield from surface.ok("n", 1, 2, 1.0)
    yield from surface.ok("n", 3, temperature=0)
    yield from surface.bad("n", LOW_INT, 0, -1, -INT64)
    yield from surface.bad("n", HIGH_INT, 129, 129.0, 16_384, INT64, 10**30, 1e30)
    yield from surface.types("n", "integer")
    yield from surface.optional("n")
    ends = (SEED_END, -SEED_END, INT64, -INT64 - 1, 2**53 + 1, 2**32 - 1, 2**32, 0, 1, -1, -(2.0**63), 1e3)
    yield from surface.ok("seed", *ends)
    yield from surface.bad("seed", HIGH_INT, 1e19, SEED_END + 1, SEED_END + 999, 2**64, 10**30, 10**300)
    yield from surface.bad("seed", LOW_INT, -SEED_END - 1, -SEED_END - 999, -(10**30))
    yield from surface.types("seed", "integer")
    yield from surface.optional("seed")
    for name in ("max_tokens", "max_completion_tokens") if surface is CHAT else ("max_tokens",):
        yield from surface.ok(name, 1, 2, 1.0)
        yield from surface.bad(name, LOW_INT, -1, -INT64)
        yield from surface.bad(name, WINDOW, 1_000_000, 2**31, 2**32, INT64, param=BOTH[surface])
        yield from surface.bad(name, HIGH_INT, INT64 + 1, 10**30, 1e30)
        yield from surface.types(name, "integer")


def _stop(surface: Surface) -> Iterator[Row]:
    yield from surface.ok("stop", "a", "\n", "\u2603", "x" * 1000)
    yield from surface.ok("stop", [], ["a"], ["a", "b", "c"], ["a", "b", "c", "d"], ["a", "a"])
    yield from surface.bad("stop", LONG_ARRAY, ["a", "b", "c", "d", "e"], ["a"] * 5, ["a"] * 1000)
    yield from surface.bad("stop", VALUE, "")
    yield from surface.bad("stop", VALUE, [""], param="stop[0]")
    yield from surface.bad("stop", VALUE, ["a", "b", ""], param="stop[2]")
    yield from surface.bad("stop", TYPE, [1], [None], [["a"]], param="stop[0]")
    yield from surface.bad("stop", TYPE, ["a", True], param="stop[1]")
    yield from surface.types("stop", "text", "array")
    yield from surface.optional("stop")


def _stream(surface: Surface) -> Iterator[Row]:
    yield from surface.ok("stream", True, False)
    yield from surface.bad("stream", TYPE, 0, "true", "")
    yield from surface.types("stream", "boolean")
    yield from surface.optional("stream")
    options = "stream_options"
    yield from surface.ok(options, {}, None, ABSENT, stream=True)
    yield from surface.ok(options, None, stream=False)
    yield from surface.optional(options)
    for member in ("include_usage", "include_obfuscation"):
        yield from surface.ok(options, {member: True}, {member: False}, {member: None}, stream=True)
        for wrong in (1, 0, "true", [], {}):
            yield from surface.bad(options, TYPE, {member: wrong}, param=f"{options}.{member}", stream=True)
    yield from surface.bad(options, UNKNOWN, {"usage": True}, param=f"{options}.usage", stream=True)
    yield from surface.bad(options, UNKNOWN, {"Include_usage": True}, param=f"{options}.Include_usage", stream=True)
    yield from surface.types(options, "object", stream=True)
    for stream in (ABSENT, False, None):
        yield from surface.bad(options, VALUE, {"include_usage": True}, {"include_usage": False}, {}, stream=stream)


def _bias(surface: Surface) -> Iterator[Row]:
    name, five = "logit_bias", "logit_bias.5"
    yield from surface.ok(name, {}, {"5": 0}, {"5": 1}, {"5": 100}, {"5": -100}, {"5": 1, "6": -1}, {"0": 1})
    yield from surface.ok(name, {str(VOCABULARY - 1): 1}, {"5": 1.0})
    yield from surface.bad(name, HIGH_INT, {"5": 101}, {"5": INT64}, param=five)
    yield from surface.bad(name, LOW_INT, {"5": -101}, {"5": -INT64}, param=five)
    yield from surface.bad(name, TYPE, *({"5": x} for x in (1.5, True, "1", None, [], {})), param=five)
    yield from surface.bad(name, VALUE, *({key: 1} for key in ("a", "1.5", "", " 1", "1 ", "1e3", "-1", "٣", "0x5")))
    yield from surface.bad(name, VALUE, *({str(VOCABULARY + far): 1} for far in (0, 1, 2**31, 10**30)))
    yield from surface.types(name, "object")
    yield from surface.optional(name)


def _model(surface: Surface) -> Iterator[Row]:
    yield from surface.required("model")
    yield from surface.types("model", "text")
    yield from surface.ok("model", SLASHED)
    unknown = ("gpt-4o", "SmolLM2-135M-Instruct", "smollm2-135m-instruct ", "../x", "a/b/c", "x" * 1000, "\u2603")
    yield from surface.bad("model", "model_not_found", *unknown, status=404)
    yield from surface.bad("model", VALUE, "")
    yield from surface.bad("model", UNSUPPORTED_VALUE, "all-minilm-l6-v2")


def _user(surface: Surface) -> Iterator[Row]:
    yield from surface.ok("user", "", "user-123", "x" * 1000, "\u2603")
    yield from surface.types("user", "text")
    yield from surface.optional("user")


def _unknown(surface: Surface) -> Iterator[Row]:
    for name in ("zzz", "", "Temperature", "MODEL", "max-tokens", "temperature ", "\u2603", "input", "__proto__"):
        for value in (1, None):
            yield from surface.bad(name, UNKNOWN, value, param=name)


EXTENSIONS = {
    "length_penalty": 1.5, "use_beam_search": True, "early_stopping": True,
    "inference_extra_params": {"a": 1}, "inference_extra_headers": {"a": "b"}, "chat_template": "x",
}  # fmt: skip
"""Known extensions that the embedded engine does not honour, each with a value that asks for something."""


def _extensions(surface: Surface) -> Iterator[Row]:
    for name, value in EXTENSIONS.items():
        yield from surface.bad(name, UNSUPPORTED, value)
        yield from surface.ok(name, None)


def _vllm(surface: Surface) -> Iterator[Row]:
    """The sampling fields of vLLM (contract 7.1)."""
    yield from surface.ok("top_k", -1, 0, 1, 40, 2.0)
    yield from surface.bad("top_k", LOW_INT, -2, -INT64)
    yield from surface.types("top_k", "integer")
    yield from surface.ok("min_p", 0, 0.5, 1)
    yield from surface.bad("min_p", LOW, -0.1)
    yield from surface.bad("min_p", HIGH, 1.1)
    yield from surface.types("min_p", "integer", "decimal")
    yield from surface.ok("repetition_penalty", 1, 1.2)
    yield from surface.bad("repetition_penalty", LOW, 0, -1)
    yield from surface.types("repetition_penalty", "integer", "decimal")
    yield from surface.ok("stop_token_ids", [], [5], [5, 6])
    yield from surface.bad("stop_token_ids", LOW_INT, [-1], param="stop_token_ids[0]")
    yield from surface.bad("stop_token_ids", TYPE, [5, "a"], param="stop_token_ids[1]")
    yield from surface.bad("stop_token_ids", LONG_ARRAY, [5] * 129)
    yield from surface.types("stop_token_ids", "array")
    for name in ("include_stop_str_in_output", "ignore_eos", "add_special_tokens"):
        yield from surface.ok(name, True, False)
        yield from surface.types(name, "boolean")
    limit = surface.base["max_tokens"]
    yield from surface.ok("min_tokens", 0, limit, float(limit))
    yield from surface.ok("min_tokens", 1, ignore_eos=True)
    yield from surface.ok("min_tokens", 0, stop="a", guided_choice=["a", "b"])
    yield from surface.bad("min_tokens", VALUE, limit + 1, INT64)
    yield from surface.bad("min_tokens", LOW_INT, -1)
    yield from surface.bad("min_tokens", UNSUPPORTED_VALUE, 1, stop="a")
    yield from surface.bad("min_tokens", UNSUPPORTED_VALUE, 1, guided_choice=["a", "b"])
    yield from surface.types("min_tokens", "integer")
    yield from surface.optional("min_tokens")
    names = (
        "top_k", "min_p", "repetition_penalty", "stop_token_ids", "include_stop_str_in_output", "ignore_eos",
        "add_special_tokens",
    )  # fmt: skip
    for name in names:
        yield from surface.optional(name)


def _templates(surface: Surface) -> Iterator[Row]:
    """How a chat becomes a text (contract 7.1 and 7.3); texts have no template."""
    chats = surface is CHAT
    refused = UNSUPPORTED
    for name in ("add_generation_prompt", "continue_final_message"):
        yield from surface.types(name, "boolean")
        yield from surface.optional(name)
    yield from surface.ok("add_generation_prompt", True)
    yield from surface.ok("continue_final_message", False)
    if chats:
        begun = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Well"}]
        yield from surface.ok("add_generation_prompt", False)
        yield from surface.ok("continue_final_message", True, messages=begun)
        yield from surface.ok("continue_final_message", True, messages=begun, add_generation_prompt=False)
        yield from surface.bad("continue_final_message", VALUE, True)
        yield from surface.bad("continue_final_message", VALUE, True, messages=begun, add_generation_prompt=True)
    else:
        yield from surface.bad("add_generation_prompt", refused, False)
        yield from surface.bad("continue_final_message", refused, True)
    yield from surface.types("chat_template", "text")
    yield from surface.bad("chat_template", LONG_TEXT, "x" * 65_537)
    yield from surface.bad("chat_template", refused, "x" * 65_536, "")
    name = "chat_template_kwargs"
    yield from surface.ok(name, {})
    yield from surface.optional(name)
    yield from surface.types(name, "object")
    unknown = f"{name}.enable_thinking" if chats else name
    yield from surface.bad(name, refused, {"enable_thinking": False}, {"enable_thinking": [1]}, param=unknown)
    for hidden in ("chat_template", "tokenize", "tools", "documents", "messages", "return_dict"):
        yield from surface.bad(name, refused, {hidden: None}, {"a": 1, hidden: True}, param=f"{name}.{hidden}")
    yield from surface.bad(name, TYPE, {"a": {}}, param=f"{name}.a")
    yield from surface.bad(name, TYPE, {"a": [[]]}, param=f"{name}.a[0]")
    yield from surface.bad(name, LONG_ARRAY, {"a": [1] * 33}, param=f"{name}.a")
    yield from surface.bad(name, "object_above_max_properties", {str(number): 1 for number in range(17)})
    yield from surface.bad(name, LONG_TEXT, {"a": "x" * 4096})


def _guided(surface: Surface) -> Iterator[Row]:
    """What holds an answer to a form (contract 7.2)."""
    taken: dict[str, tuple[Any, ...]] = {
        "guided_json": ({"type": "object"}, '{"type": "integer"}'),
        "guided_regex": ("[a-z]+",),
        "guided_choice": (["yes", "no"],),
        "guided_grammar": ('root ::= "a" | "b" root',),
        "structured_outputs": ({"choice": ["a", "b"]}, {"json_object": True}, {"regex": "a+"}),
        "guided_decoding_backend": ("outlines", "lm-format-enforcer", "auto", "xgrammar", "guidance"),
    }
    for name, values in taken.items():
        yield from surface.ok(name, *values)
        yield from surface.optional(name)
    yield from surface.ok("guided_whitespace_pattern", "[ ]?", None, guided_json={"type": "object"})
    yield from surface.bad("guided_whitespace_pattern", VALUE, "[ ]?", "(")
    yield from surface.bad("guided_json", VALUE, "", "no JSON", "[1]")
    yield from surface.bad("guided_json", ANY, {"type": "text"}, param=ANY)
    yield from surface.bad("guided_regex", VALUE, "", "(", "a{999999}")
    yield from surface.bad("guided_choice", EMPTY, [])
    yield from surface.bad("guided_choice", VALUE, ["a", ""], param="guided_choice[1]")
    yield from surface.bad("guided_grammar", VALUE, "", "root ::= nothing", 'other ::= "a"', "root ::= root")
    yield from surface.bad("guided_decoding_backend", VALUE, "", "zzz")
    yield from surface.bad("structured_outputs", VALUE, {}, {"regex": "a", "choice": ["a"]})
    yield from surface.bad("structured_outputs", UNKNOWN, {"choices": ["a"]}, param="structured_outputs.choices")
    for name, value in (("guided_regex", "a"), ("guided_choice", ["a"]), ("structured_outputs", {"regex": "a"})):
        yield from surface.bad(name, VALUE, value, param=ANY, guided_json={"type": "object"})
    kinds = {
        "guided_json": ("object", "text"), "guided_regex": ("text",), "guided_choice": ("array",),
        "guided_grammar": ("text",), "structured_outputs": ("object",), "guided_decoding_backend": ("text",),
        "guided_whitespace_pattern": ("text",),
    }  # fmt: skip
    for name, kind in kinds.items():
        yield from surface.types(name, *kind)


def _inference(surface: Surface) -> Iterator[Row]:
    """Settings of one request (contract 4.2 and 4.5)."""
    name = "inference_timeout"
    yield from surface.ok(name, 60, 60.5, "60", "60.5", 590)
    yield from surface.bad(name, LOW, 0, -1, "0", -0.5)
    yield from surface.bad(name, HIGH, 590.1, 1e300, "591")
    yield from surface.bad(name, VALUE, "", "5s", "1e1", "-5", " 5", "inf")
    yield from surface.types(name, "integer", "decimal", "text")
    yield from surface.optional(name)
    params, headers = "inference_extra_params", "inference_extra_headers"
    for extras in (params, headers):
        yield from surface.ok(extras, {})
        yield from surface.types(extras, "object")
    for member in ("model", "messages", "N", "tokenize", "chat_template", ""):
        yield from surface.bad(params, UNSUPPORTED, {member: 1}, param=f"{params}.{member}")
    for header in ("host", "Authorization", "x-forwarded-for", "a b", "a\r\nb"):
        yield from surface.bad(headers, UNSUPPORTED, {header: "x"}, param=f"{headers}.{header}")
    yield from surface.bad(headers, TYPE, {"x-a": 1}, {"x-a": None}, param=f"{headers}.x-a")
    yield from surface.bad(headers, VALUE, {"x-a": "b\r\nhost: c"}, {"x-a": ""}, param=f"{headers}.x-a")


def _memory() -> Iterator[Row]:
    """How much of the conversation the model is given (contract 4.4)."""
    name = "memory_strategy"
    yield from CHAT.ok(
        name, {"name": "last_k", "k": 1}, {"name": "last_k", "params": {"k": 3}}, {"name": "last_k", "k": 2.0}
    )
    yield from CHAT.bad(name, VALUE, {"name": "zzz", "k": 1}, param=f"{name}.name")
    yield from CHAT.bad(name, MISSING, {"k": 1}, {}, param=f"{name}.name")
    yield from CHAT.bad(name, MISSING, {"name": "last_k"}, param=f"{name}.k")
    yield from CHAT.bad(name, LOW_INT, {"name": "last_k", "k": 0}, {"name": "last_k", "k": -1}, param=f"{name}.k")
    yield from CHAT.bad(name, TYPE, {"name": "last_k", "k": "1"}, {"name": "last_k", "k": True}, param=f"{name}.k")
    yield from CHAT.bad(name, UNKNOWN, {"name": "last_k", "k": 1, "K": 1}, param=f"{name}.K")
    yield from CHAT.types(name, "object")
    yield from CHAT.optional(name)
    budget = "token_budget"
    yield from CHAT.ok(budget, 1000, 1000.0, INT64)
    yield from CHAT.bad(budget, LOW_INT, 0, -1)
    yield from CHAT.bad(budget, WINDOW, 1)
    yield from CHAT.types(budget, "integer")
    yield from CHAT.optional(budget)
    for field, value in ((name, {"name": "last_k", "k": 1}), (budget, 100)):
        yield from TEXT.bad(field, UNSUPPORTED, value)
        yield from TEXT.ok(field, None)


def _choosing() -> Iterator[Row]:
    """What chats take besides, as completions always did."""
    yield from CHAT.ok("best_of", 2)
    yield from CHAT.bad("best_of", VALUE, 1, n=2)
    for calls in ({"tools": [tool()]}, {"functions": [tool()["function"]]}):
        yield from CHAT.bad("best_of", VALUE, 2, **calls)
        choice = "tool_choice" if "tools" in calls else "function_call"
        yield from CHAT.bad("best_of", VALUE, 2, **calls, **{choice: "auto"})
        yield from CHAT.ok("best_of", 2, **calls, **{choice: "none"})
    yield from CHAT.bad("best_of", VALUE, 2, stream=True)
    yield from CHAT.bad("best_of", HIGH_INT, 129)
    for name, kind in (("best_of", "integer"), ("echo", "boolean")):
        yield from CHAT.types(name, kind)


def _limits() -> Iterator[Row]:
    """Where the two surfaces differ: the limit's name, and what 0 means."""
    both = ("max_tokens", "max_completion_tokens")
    for name, other in (both, both[::-1]):
        yield from CHAT.bad(name, LOW_INT, 0, **{other: ABSENT})
        yield from CHAT.bad(name, LOW_INT, 0, **{other: 1})
        yield from CHAT.ok(name, None, ABSENT, **{other: 1})
    yield from CHAT.ok("max_tokens", None, ABSENT, stop=ANY_TEXT, temperature=0)
    yield from CHAT.ok("max_completion_tokens", 1, max_tokens=2)
    yield from CHAT.ok("max_completion_tokens", 1, max_tokens=1_000_000)
    yield from TEXT.ok("max_tokens", 0, None, ABSENT)
    yield from TEXT.ok("max_tokens", 0, stream=True)
    yield from CHAT.ok("n", 128)
    yield from TEXT.ok("n", 128, temperature=0)
    yield from TEXT.bad("max_completion_tokens", UNKNOWN, 1)


def rows() -> Iterator[Row]:
    for surface in BOTH:
        for part in (
            _numbers,
            _integers,
            _stop,
            _stream,
            _bias,
            _model,
            _user,
            _unknown,
            _extensions,
            _vllm,
            _templates,
            _guided,
        ):
            yield from part(surface)
        yield from _inference(surface)
    yield from _memory()
    yield from _choosing()
    yield from _limits()
