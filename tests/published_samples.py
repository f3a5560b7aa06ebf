"""The sample requests and answers of the APIs that this server speaks, as their documents print them.

Where a document leaves out what stands in an object or an array, it is filled with what the same document describes.
`wrong`: what contradicts the document's own text there, by the `param` that the error names, with what it has to be.
`answer`: the members that are printed, with values of their JSON types.
"""

from typing import Any

import msgspec
from tests.server_process import CHAT_MODEL, EMBEDDING_MODEL

_CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
_FUNCTION = {"name": "look", "description": "Look.", "parameters": {"type": "object", "properties": {}}}
_USAGE = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
_ANSWER: dict[str, Any] = {"id": "string", "choices": [], "created": 0, "model": "string", "object": "chat.completion"}
_CHUNK = _ANSWER | {"object": "chat.completion.chunk"}
_FINGERPRINT = {"system_fingerprint": "string"}
LEFT_OUT = object()


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One request, to be sent with a key of `profile`. `streams`: the members of each event, where it may stream."""

    path: str
    request: dict[str, Any]
    answer: dict[str, Any]
    wrong: dict[str, dict[str, Any]] = {}
    streams: dict[str, Any] = {}
    profile: str = "openai"
    status: int = 200

    def mended(self, *, but: str | None = None) -> dict[str, Any]:
        """The request without what is wrong with it, or with one thing left as it is printed."""
        mended = dict(self.request)
        for param, right in self.wrong.items():
            mended |= right if param != but else {}
        return {name: value for name, value in mended.items() if value is not LEFT_OUT}


SAMPLES: dict[str, Sample] = {
    "chat 2.3.0": Sample(
        path="/v1/chat/completions",
        profile="thyris",
        request={
            "messages": [
                {"role": "system", "content": "Be brief.", "name": "house"},
                {"role": "user", "content": [{"type": "text", "text": "Look up."}], "name": "ada"},
                {"role": "assistant", "content": None, "tool_calls": [_CALL]},
                {"role": "tool", "content": "It is blue.", "tool_call_id": "call_1"},
                {"role": "assistant", "content": None, "function_call": {"name": "look", "arguments": "{}"}},
                {"role": "function", "content": "It is blue.", "name": "look"},
            ],
            "model": CHAT_MODEL,
            "store": False,
            "metadata": {"a": "b"},
            "frequency_penalty": 0,
            "logit_bias": None,
            "logprobs": False,
            "top_logprobs": 20,
            "max_tokens": 0,
            "max_completion_tokens": 0,
            "n": 1,
            "modalities": ["text"],
            "prediction": {"type": "content", "content": "Because"},
            "audio": {"voice": "ash", "format": "opus"},
            "presence_penalty": 0,
            "response_format": {"type": "text"},
            "seed": -9223372036854776000,
            "service_tier": "auto",
            "stop": None,
            "stream": False,
            "stream_options": None,
            "temperature": 1,
            "top_p": 1,
            "tools": [{"type": "function", "function": _FUNCTION | {"strict": False}}],
            "tool_choice": "none",
            "parallel_tool_calls": True,
            "user": "user-1234",
            "function_call": "none",
            "functions": [_FUNCTION],
        },
        wrong={
            "max_tokens": {"max_tokens": 1},
            "max_completion_tokens": {"max_completion_tokens": 1},
            "functions": {"functions": LEFT_OUT, "function_call": LEFT_OUT},
            "top_logprobs": {"logprobs": True},
        },
        answer=_ANSWER | _FINGERPRINT | {"service_tier": "scale", "usage": _USAGE},
        streams=_CHUNK | _FINGERPRINT | {"service_tier": "scale"},
    ),
    "embeddings 2.3.0": Sample(
        path="/v1/embeddings",
        profile="thyris",
        request={
            "input": "The quick brown fox jumped over the lazy dog",
            "model": EMBEDDING_MODEL,
            "encoding_format": "float",
            "dimensions": 1,
            "user": "user-1234",
        },
        answer={
            "data": [{"index": 0, "embedding": [0.5], "object": "embedding"}],
            "model": "string",
            "object": "list",
            "usage": {"prompt_tokens": 0, "total_tokens": 0},
        },
    ),
    "chat of a gateway": Sample(
        path="/v4/beta/chat/completions",
        request={
            "model": CHAT_MODEL,
            "messages": [{"role": "user", "content": {"type": "text", "text": "Look up."}, "name": "ada"}],
            "chat_template_kwargs": {},
            "guided_json": {"type": "string", "maxLength": 9},
            "guided_decoding_backend": "outlines",
            "guided_whitespace_pattern": "[ ]?",
            "include_stop_str_in_output": True,
            "memory_strategy": {"name": "last_k", "k": 1},
            "stream": False,
            "stop": [".", "!"],
            "frequency_penalty": 0,
            "logit_bias": {"5": 1},
            "logprobs": True,
            "max_tokens": 9,
            "n": 2,
            "presence_penalty": 0,
            "seed": 1,
            "suffix": ".",
            "temperature": 1,
            "top_k": 5,
            "top_logprobs": 2,
            "top_p": 0.5,
            "response_format": {"type": "text"},
            "user": "ada",
            "audio": {"format": "wav", "voice": "alloy"},
            "inference_timeout": "60",
            "max_completion_tokens": 9,
            "modalities": ["text"],
            "inference_extra_params": {},
            "tools": [{"type": "function", "function": _FUNCTION, "cache_control": {"type": "ephemeral"}}],
            "tool_choice": "none",
            "parallel_tool_calls": True,
            "best_of": 2,
            "inference_extra_headers": {},
            "prediction": {"type": "content", "content": "Because"},
        },
        # Only a model that can fill in takes one.
        wrong={"suffix": {"suffix": LEFT_OUT}},
        answer=_ANSWER | _FINGERPRINT | {"usage": _USAGE},
        streams=_CHUNK | _FINGERPRINT,
    ),
    "chat of hosted models": Sample(
        path="/v1/chat/completions",
        profile="ionos",
        request={
            "model": CHAT_MODEL,
            "messages": [{"role": "user", "content": "Look up."}],
            "response_format": {"type": "json_object"},
            "temperature": 0.7,
            "top_p": -1,
            "n": 1,
            "stream": False,
            "stop": [],
            "max_tokens": 16,
            "max_completion_tokens": 16,
            "presence_penalty": 0,
            "frequency_penalty": 0,
            "logit_bias": {},
            "user": "user-123",
            "tools": [{"type": "function", "function": _FUNCTION}],
            "tool_choice": "none",
        },
        answer=_ANSWER | {"usage": _USAGE},
        streams=_CHUNK,
    ),
    "texts of hosted models": Sample(
        path="/v1/completions",
        profile="ionos",
        request={
            "model": CHAT_MODEL,
            "prompt": "Once upon a time",
            "temperature": 0.7,
            "top_p": 0.9,
            "n": 1,
            "stream": False,
            "stop": [],
            "max_tokens": 10,
            "presence_penalty": 0,
            "frequency_penalty": 0,
            "logit_bias": {},
            "user": "user-123",
        },
        answer=_ANSWER
        | {"object": "text_completion", "choices": [{"finish_reason": "length", "index": 0, "text": "string"}]},
        streams=_ANSWER | {"object": "text_completion"},
    ),
    "chat of early 2024": Sample(
        path="/v1/chat/completions",
        profile="oxy",
        request={
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Look up."}],
            "model": CHAT_MODEL,
            "frequency_penalty": 0,
            "logit_bias": None,
            "logprobs": True,
            "top_logprobs": 5,
            "max_tokens": 9,
            "n": 2,
            "presence_penalty": 0,
            "response_format": {"type": "json_object"},
            "seed": None,
            "stop": None,
            "stream": None,
            "temperature": 1,
            "top_p": 1,
            "tools": [{"type": "function", "function": _FUNCTION}],
            "tool_choice": "none",
            "user": "ada",
        },
        answer=_ANSWER | _FINGERPRINT | {"usage": _USAGE},
        streams=_CHUNK | _FINGERPRINT,
    ),
}
