"""For each field of each surface the values that are tried, and what has to stand beside each. The first is the usual.

Every form that a field's value may have is here, whatever becomes of it: nothing that a caller can write is left out.
"""

from collections.abc import Mapping
from typing import Any

Body = dict[str, Any]
Forms = tuple[Body, ...]

HELLO = [{"role": "user", "content": "Hi"}]
BEGUN = [*HELLO, {"role": "assistant", "content": "Well,"}]
CALL = [{"role": "user", "content": "CALL"}]
HANG = [{"role": "user", "content": "HANG"}]
LONG = [*({"role": role, "content": "word " * 50} for role in ("user", "assistant") * 4), *HELLO]
SCHEMA = {"type": "object", "properties": {"a": {"enum": ["b"]}}, "required": ["a"], "additionalProperties": False}
OPEN = {"type": "object", "properties": {"a": {"type": "string"}}}
DEEP: Body = {"type": "object"}
for _ in range(40):
    DEEP = {"type": "object", "properties": {"a": DEEP}}
FUNCTION = {"name": "look", "description": "Look.", "parameters": SCHEMA}
TOOL: Body = {"type": "function", "function": FUNCTION}
TOOLS = [TOOL]
OTHER = {"type": "function", "function": {"name": "listen"}}
NAMED = {"type": "function", "function": {"name": "look"}}
CUSTOM = {"type": "custom", "custom": {"name": "look", "description": "Look.", "format": {"type": "text"}}}
LARK = {"definition": 'start: "a"', "syntax": "lark"}
GRAMMATICAL = {"type": "custom", "custom": {"name": "look", "format": {"type": "grammar", "grammar": LARK}}}
PIXELS = "data:image/png;base64,iVBORw0KGgo="
PICTURE: Body = {"type": "image_url", "image_url": {"url": PIXELS}}
SOUND = {"type": "input_audio", "input_audio": {"data": "AAEC", "format": "wav"}}
PAPER = {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="}}
TEXT = {"type": "text", "text": "Hi"}
VOICE = {"voice": "alloy", "format": "wav"}
RESULT = {"role": "tool", "content": "b", "tool_call_id": "call_1"}
LOOKED = {"name": "look", "arguments": "{}"}
SEEN = {"name": "look", "content": "b"}
CALLED = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"a": "b"}'}}


def only(name: str, *values: Any, **beside: Any) -> Forms:
    """These values, each with what has to stand beside it."""
    return tuple({name: value, **beside} for value in values)


def _said(*contents: Any) -> Forms:
    return tuple({"messages": [{"role": "user", "content": content}]} for content in contents)


def _talk(*messages: Body) -> Body:
    return {"messages": [*HELLO, *messages]}


def _schema(**members: Any) -> Body:
    return {"type": "json_schema", "json_schema": {"name": "x", **members}}


SHARED: dict[str, Forms] = {
    "model": ({},),
    "frequency_penalty": only("frequency_penalty", 0.5, -2, 0),
    "presence_penalty": only("presence_penalty", -0.5, 2, 0),
    "logit_bias": only("logit_bias", {"100": 5}, {"100": -100, "7": 100}),
    "n": only("n", 2, 1),
    "seed": only("seed", 7, -1, 2**40),
    "stop": only("stop", ["\n\n", "END"], "END", ["a", "b", "c", "d"], " "),
    "stream": only("stream", True, False),
    "stream_options": only("stream_options", {"include_usage": True}, {"include_usage": False}, stream=True),
    "temperature": only("temperature", 0.5, 0, 1, 2),
    "top_p": only("top_p", 0.5, 1, 0),
    "user": only("user", "u-1"),
}
EXTENSIONS: dict[str, Forms] = {
    "best_of": only("best_of", 2, 1),
    "top_k": only("top_k", 5, 0, -1),
    "min_p": only("min_p", 0.1),
    "repetition_penalty": only("repetition_penalty", 1.1, 1000),
    "stop_token_ids": only("stop_token_ids", [2]),
    "include_stop_str_in_output": only("include_stop_str_in_output", True, stop=["END"]),
    "ignore_eos": only("ignore_eos", True),
    "min_tokens": only("min_tokens", 1),
    "length_penalty": only("length_penalty", 1.5),
    "use_beam_search": only("use_beam_search", True),
    "early_stopping": only("early_stopping", True),
    "add_special_tokens": only("add_special_tokens", True, False),
    "echo": only("echo", True),
    "add_generation_prompt": only("add_generation_prompt", False),
    "continue_final_message": only("continue_final_message", True, messages=BEGUN),
    "chat_template": only("chat_template", "{{ messages[0].content }}"),
    "chat_template_kwargs": only("chat_template_kwargs", {"enable_thinking": True}),
    "guided_json": only("guided_json", SCHEMA, '{"type": "object"}', OPEN, {"type": "array"}, DEEP),
    "guided_regex": only("guided_regex", "[0-9]{2}"),
    "guided_choice": only("guided_choice", ["yes", "no"]),
    "guided_grammar": only("guided_grammar", 'root ::= "yes" | "no"', 'start: "yes" | "no"'),
    "guided_decoding_backend": only("guided_decoding_backend", "outlines", "auto"),
    "guided_whitespace_pattern": only("guided_whitespace_pattern", "[ ]?", guided_json=SCHEMA),
    "structured_outputs": only(
        "structured_outputs",
        {"choice": ["yes", "no"]},
        {"json": SCHEMA},
        {"json": DEEP},
        {"json_object": True},
        {"regex": "[0-9]{2}"},
        {"grammar": 'root ::= "yes" | "no"'},
        {"json": SCHEMA, "whitespace_pattern": "[ ]?"},
        {"json": SCHEMA, "disable_any_whitespace": True},
        {"json": SCHEMA, "disable_additional_properties": True},
    ),
    "memory_strategy": only(
        "memory_strategy", {"name": "last_k", "k": 1}, {"name": "last_k", "params": {"k": 1}}, messages=LONG
    ),
    "token_budget": only("token_budget", 100, messages=LONG),
    "suffix": only("suffix", " the end."),
    "inference_timeout": (
        {"inference_timeout": 0.02, "messages": HANG},
        {"inference_timeout": "0.02", "messages": HANG},
    ),
    "inference_extra_params": only("inference_extra_params", {"x_walk": {"a": [1]}}, {"mirostat": 1}),
    "inference_extra_headers": only("inference_extra_headers", {"x-walk": "a"}, {"x-other": "a"}),
}
_OF_CHATS: dict[str, Forms] = {
    "messages": (
        *_said([TEXT], "Hi", [TEXT, PICTURE], [PICTURE | {"image_url": {"url": PIXELS, "detail": "low"}}]),
        *_said([SOUND], [PAPER]),
        {"messages": [{"role": "developer", "content": "Be brief."}, *HELLO]},
        {"messages": [{"role": "system", "content": [TEXT]}, *HELLO]},
        {"messages": [{"role": "user", "content": "Hi", "name": "ann"}]},
        _talk({"role": "assistant", "content": "Hm.", "refusal": None}, HELLO[0]),
        _talk({"role": "assistant", "refusal": "No."}, HELLO[0]),
        _talk({"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}, HELLO[0]),
        _talk({"role": "assistant", "tool_calls": [CALLED]}, RESULT),
        _talk({"role": "assistant", "content": None, "function_call": LOOKED}, {"role": "function", **SEEN}),
        _talk({"role": "assistant", "audio": {"id": "audio_1"}}, HELLO[0]),
    ),
    "store": only("store", True),
    "metadata": only("metadata", {"a": "b"}, store=True),
    "logprobs": only("logprobs", True),
    "top_logprobs": only("top_logprobs", 2, 20, logprobs=True),
    "max_tokens": only("max_tokens", 17, 1),
    "max_completion_tokens": only("max_completion_tokens", 18, 1),
    "modalities": ({"modalities": ["text"]}, {"modalities": ["text", "audio"], "audio": VOICE}),
    "prediction": only(
        "prediction", {"type": "content", "content": "Hello"}, {"type": "content", "content": [TEXT]}
    ),
    "audio": (
        {"audio": VOICE},
        *only("audio", VOICE, {"voice": "coral", "format": "mp3"}, modalities=["text", "audio"]),
    ),
    "response_format": only(
        "response_format",
        {"type": "json_object"},
        {"type": "text"},
        _schema(schema=SCHEMA, strict=True, description="One."),
        _schema(schema=OPEN, strict=False),
        _schema(schema={"type": "array"}),
        _schema(),
    ),
    "service_tier": only("service_tier", "default", "auto", "flex", "scale", "priority", "fast"),
    "tools": only(
        "tools",
        TOOLS,
        [TOOL | {"function": FUNCTION | {"strict": True}}],
        [TOOL | {"cache_control": {"type": "ephemeral"}}],
        [{"type": "function", "function": {"name": "look", "parameters": {"anyOf": [SCHEMA]}}}],
        [OTHER, TOOL],
        [CUSTOM],
        [GRAMMATICAL],
    ),
    "tool_choice": (
        *only(
            "tool_choice",
            "required",
            "auto",
            "none",
            NAMED,
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [NAMED]}},
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [NAMED]}},
            tools=TOOLS,
        ),
        {"tool_choice": {"type": "custom", "custom": {"name": "look"}}, "tools": [CUSTOM]},
    ),
    "parallel_tool_calls": only("parallel_tool_calls", False, True, tools=TOOLS, messages=CALL),
    "functions": only(
        "functions", [FUNCTION], [{"name": "look"}], [{"name": "look", "parameters": {"anyOf": [SCHEMA]}}]
    ),
    "function_call": only("function_call", {"name": "look"}, "auto", "none", functions=[FUNCTION]),
    "reasoning_effort": only("reasoning_effort", "low", "none", "minimal", "medium", "high", "xhigh", "max"),
    "verbosity": only("verbosity", "low", "high"),
    "web_search_options": only(
        "web_search_options",
        {"search_context_size": "low"},
        {"user_location": {"type": "approximate", "approximate": {"country": "DE", "city": "Ulm"}}},
    ),
    "safety_identifier": only("safety_identifier", "u-1"),
    "prompt_cache_key": only("prompt_cache_key", "k"),
    "prompt_cache_retention": only("prompt_cache_retention", "24h"),
    "prompt_cache_options": only("prompt_cache_options", {"mode": "implicit"}, {"ttl": "30m"}),
    "moderation": only(
        "moderation",
        {"model": "omni-moderation-latest"},
        {"model": "omni-moderation-latest", "policy": {"input": {"mode": "block"}, "output": {"mode": "score"}}},
    ),
}  # fmt: skip
FORMS: Mapping[str, Mapping[str, Forms]] = {
    "chat": SHARED | EXTENSIONS | _OF_CHATS,
    "completions": SHARED
    | EXTENSIONS
    | {
        "prompt": only("prompt", "Hi there", ["Hi", "Ho"], [1, 2, 3], [[1, 2], [3]]),
        "inference_timeout": only("inference_timeout", 0.02, prompt="HANG"),
        "continue_final_message": only("continue_final_message", True, False),
        "memory_strategy": only("memory_strategy", {"name": "last_k", "k": 1}),
        "token_budget": only("token_budget", 100),
        "logprobs": only("logprobs", 1, 0, 5),
        "max_tokens": only("max_tokens", 17, 1, 0),
    },
    "embeddings": {
        "model": ({},),
        "input": only("input", ["Hi", "there"], "Hi", [1, 2], [[1, 2], [3]]),
        "encoding_format": only("encoding_format", "base64", "float"),
        "dimensions": only("dimensions", 2),
        "user": only("user", "u-1"),
    },
    "images": {
        "prompt": only("prompt", "A red square"),
        "model": ({},),
        "n": only("n", 2),
        "quality": only("quality", "high"),
        "response_format": only("response_format", "url", "b64_json"),
        "size": only("size", "1024x1024", "1024*1792"),
        "style": only("style", "vivid"),
        "background": only("background", "opaque"),
        "output_format": only("output_format", "webp"),
        "output_compression": only("output_compression", 50, output_format="webp"),
        "moderation": only("moderation", "low"),
        "stream": only("stream", True),
        "partial_images": only("partial_images", 1, stream=True),
        "user": only("user", "u-1"),
        "negative_prompt": only("negative_prompt", "rain"),
        "steps": only("steps", 20),
        "sampler": only("sampler", "Euler"),
        "seed": only("seed", 7),
    },
    "speech": {
        "model": ({},),
        "input": only("input", "Hello there"),
        "voice": only("voice", "coral"),
        "response_format": only("response_format", "opus", "pcm"),
        "speed": only("speed", 2),
        "instructions": only("instructions", "Whisper."),
        "stream_format": only("stream_format", "sse", "audio"),
    },
}
OF_SCALE: Mapping[str, Mapping[str, Forms]] = {
    "chat": {
        "seed": only("seed", 7, 2**40),
        "audio": ({"audio": VOICE}, {"audio": VOICE, "modalities": ["text", "audio"]}),
        "messages": (*_OF_CHATS["messages"], *_said(TEXT, PICTURE)),
    },
    "completions": {
        "seed": only("seed", 7, 2**40),
        "prompt": only("prompt", "Hi there"),
        "logprobs": only("logprobs", True),
        "top_logprobs": only("top_logprobs", 2, 20, logprobs=True),
        "return_token_log_probs": only("return_token_log_probs", True),
        "max_completion_tokens": only("max_completion_tokens", 18),
        "max_new_tokens": only("max_new_tokens", 19),
        "stop_sequences": only("stop_sequences", ["END"]),
        "modalities": only("modalities", ["text", "audio"]),
        "audio": only("audio", VOICE),
        "response_format": only("response_format", {"type": "json_object"}),
        "tools": only("tools", TOOLS),
        "tool_choice": only("tool_choice", "auto"),
        "parallel_tool_calls": only("parallel_tool_calls", False),
        "prediction": only("prediction", {"type": "content", "content": "Hello"}),
    },
}
"""What that API writes otherwise."""
BASE: Mapping[str, Body] = {
    "chat": {"messages": HELLO},
    "completions": {"prompt": "Hi"},
    "embeddings": {"input": "Hi"},
    "images": {"prompt": "A blue circle"},
    "speech": {"input": "Hi", "voice": "alloy"},
    "native": {"input": "Hi"},
}
PATHS: Mapping[str, str] = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "embeddings": "/v1/embeddings",
    "images": "/v1/images/generations",
    "speech": "/v1/audio/speech",
}
SCALE_PATHS: Mapping[str, str] = {"chat": "/v4/beta/chat/completions", "completions": "/v4/beta/completions"}
NATIVE: Mapping[str, Forms] = {
    "model": ({},),
    "input": only("input", "Hello there"),
    "chat_history": only("chat_history", [["Hm?", "Ho."], ["A?", "B."]]),
    "use_documents_from": only("use_documents_from", "cats"),
    "n_documents": (*only("n_documents", 1, use_documents_from="cats"), {"n_documents": 1}),
    "image": only("image", PIXELS),
    "system_prompt": only("system_prompt", "Be brief."),
    "rag_prompt": only("rag_prompt", "Given {{Context}}, {{UserInput}}?", use_documents_from="cats"),
    "frequency_penalty": only("frequency_penalty", 0.5, 0),
    "presence_penalty": only("presence_penalty", -0.5, 0),
    "temperature": only("temperature", 0.5, 2, 1),
    "top_p": only("top_p", 0.5, 1),
    "stream": only("stream", True, False),
    "explain": (*only("explain", True, use_documents_from="cats"), {"explain": True}),
    "documents": only("documents", ["lions"], use_documents_from="cats"),
    "memory_strategy": only("memory_strategy", {"name": "last_k", "k": 1}, chat_history=[["Hm?", "Ho."]]),
    "token_budget": only("token_budget", 100, chat_history=[["word " * 150, "Ho."]]),
}
"""Of `/api/chat`, with a collection `cats` of two documents, `cats` and `lions`."""
