"""What a caller may add to the request that its model's server gets: members of its body, and headers.

Source: contract section 4.5. Nothing is let through that the settings of a deployment do not name; what stands here is
let through by no settings.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from narthex.core.errors import NarthexError

PARAMS, HEADERS = "inference_extra_params", "inference_extra_headers"
"""The request fields that ask for it."""

NEVER_PARAMS = frozenset(
    (
        # request fields: what was checked is not replaced
        "add_generation_prompt", "add_special_tokens", "audio", "best_of", "chat_template", "chat_template_kwargs",
        "continue_final_message", "dimensions", "early_stopping", "echo", "encoding_format", "frequency_penalty",
        "function_call", "functions", "guided_choice", "guided_decoding_backend", "guided_grammar", "guided_json",
        "guided_regex", "guided_whitespace_pattern", "ignore_eos", "include_stop_str_in_output",
        "inference_extra_headers", "inference_extra_params", "inference_timeout", "input", "length_penalty",
        "logit_bias", "logprobs", "max_completion_tokens", "max_tokens", "memory_strategy", "messages", "metadata",
        "min_p", "min_tokens", "modalities", "model", "moderation", "n", "parallel_tool_calls", "prediction",
        "presence_penalty", "prompt", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention",
        "reasoning_effort", "repetition_penalty", "response_format", "safety_identifier", "seed", "service_tier",
        "stop", "stop_token_ids", "store", "stream", "stream_options", "structured_outputs", "suffix", "temperature",
        "token_budget", "tool_choice", "tools", "top_k", "top_logprobs", "top_p", "use_beam_search", "user",
        "verbosity", "web_search_options",
        # the same by servers' own names
        "ebnf", "grammar", "json_schema", "max_length", "max_new_tokens", "max_output_tokens", "n_predict", "n_probs",
        "num_predict", "random_seed", "regex", "return_token_log_probs", "stop_sequences", "system",
        "system_instruction",
        # what a template or a tokenizer is called with (contract 7.3)
        "conversation", "documents", "padding", "return_assistant_tokens_mask", "return_dict", "return_tensors",
        "tokenize", "tokenizer", "truncation",
    )
)  # fmt: skip
"""Members of a body that are never a caller's to add."""

_NEVER_HEADERS = frozenset(
    (
        "accept-encoding", "api-key", "authorization", "connection", "cookie", "expect", "forwarded", "host",
        "keep-alive", "te", "trailer", "trailers", "transfer-encoding", "upgrade", "x-api-key",
    )
)  # fmt: skip
_NEVER_BEGINS = ("content-", "proxy-", "x-forwarded-")

_is_name = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}").fullmatch
_is_value = re.compile(r"[!-~]([\t -~]{0,4094}[!-~])?").fullmatch


def param_fault(name: str) -> str | None:
    """Why settings can't allow callers a member of a body; None: they can."""
    if not name or len(name) > 100 or not name.isprintable():
        return "it is no name of a parameter"
    return "callers can't replace what is checked" if name.casefold() in NEVER_PARAMS else None


def header_fault(name: str) -> str | None:
    """Why settings can't allow callers a header; None: they can. The name's case means nothing."""
    lower = name.lower()
    if not _is_name(name):
        return "it is no name of a header"
    never = lower in _NEVER_HEADERS or lower.startswith(_NEVER_BEGINS)
    return "such a header is never a caller's to set" if never else None


def is_header_value(value: str) -> bool:
    """Whether a text can be sent as the value of a header: ASCII in one line."""
    return _is_value(value) is not None


# --- what is told of them --------------------------------------------------------------------------------------------

_HIDDEN = "***"
_SHORTEST = 8
"""Shorter texts are no secrets, and may be words of an error's own."""


def hide(error: NarthexError, fields: Mapping[str, Any]) -> None:
    """Take what a request added out of what an error tells, where a server repeated it."""
    for text in sorted(_texts([fields.get(PARAMS), fields.get(HEADERS)]), key=len, reverse=True):
        if len(text) >= _SHORTEST:
            error.message = error.message.replace(text, _HIDDEN)
            error.param = error.param and error.param.replace(text, _HIDDEN)
            error.code = error.code and error.code.replace(text, _HIDDEN)
    error.args = (error.message,)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)
