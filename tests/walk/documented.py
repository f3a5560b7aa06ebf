"""What each vendor's server may be sent, by the names of its own reference: a second account of the rows, by hand.

Source: the vendors' references and, of servers that are run by oneself, their documentation, November 2026; of OxyAPI
contract section 6. Left out is what is documented but never sent: what we do ourselves (`store`, `metadata`), and what
the rows don't use.
"""

from collections.abc import Mapping

_SAMPLED = "model temperature top_p stop seed frequency_penalty presence_penalty stream stream_options"
_CHAT = f"{_SAMPLED} messages response_format tools tool_choice"
_TEXT = f"{_SAMPLED} prompt max_tokens"
_OPENAI = (
    f"{_CHAT} n logit_bias logprobs top_logprobs modalities prediction audio service_tier parallel_tool_calls user"
    " function_call functions reasoning_effort verbosity safety_identifier prompt_cache_key prompt_cache_retention"
)
_NEWEST = "web_search_options prompt_cache_options moderation"
_OPENAI_TEXT = f"{_TEXT} n echo logit_bias logprobs suffix user"
_VECTORS = "model input"
_PICTURES = (
    "prompt model n quality response_format size style background output_format output_compression moderation stream"
    " partial_images user"
)
_SIBLINGS = "negative_prompt steps sampler seed"
_SPOKEN = "model input voice response_format speed instructions stream_format"
_OF_VLLM = (
    "top_k min_p repetition_penalty stop_token_ids include_stop_str_in_output ignore_eos min_tokens add_special_tokens"
    " structured_outputs"
)
_OLDER_VLLM = (
    "length_penalty guided_json guided_regex guided_choice guided_grammar guided_decoding_backend"
    " guided_whitespace_pattern"
)
_TEMPLATES = "add_generation_prompt continue_final_message chat_template chat_template_kwargs echo"
_OF_SGLANG = "top_k min_p repetition_penalty stop_token_ids no_stop_trim ignore_eos min_tokens regex ebnf"
_ANTHROPIC = (
    "model max_tokens messages system metadata stop_sequences stream temperature top_p top_k tools tool_choice thinking"
    " service_tier"
)

_OF_OPENAI = {
    "completions": _OPENAI_TEXT,
    "embeddings": f"{_VECTORS} encoding_format dimensions user",
    "images": _PICTURES,
    "speech": _SPOKEN,
}
_BY_HAND: Mapping[str, Mapping[str, str]] = {
    "anthropic": {"chat": _ANTHROPIC},
    "anthropic, held to schemas": {"chat": f"{_ANTHROPIC} output_config"},
    "anthropic, always thinking": {"chat": f"{_ANTHROPIC} output_config"},
    "azure": {"chat": f"{_OPENAI} max_completion_tokens", **_OF_OPENAI},
    "deepseek": {"chat": f"{_CHAT} max_tokens logprobs top_logprobs reasoning_effort"},
    "gemini": {
        "chat": f"{_CHAT} max_tokens n reasoning_effort",
        "embeddings": f"{_VECTORS} dimensions",
    },
    "groq": {"chat": f"{_CHAT} max_completion_tokens parallel_tool_calls reasoning_effort user"},
    "llama.cpp": {
        "chat": f"{_CHAT} max_tokens logit_bias logprobs top_logprobs parallel_tool_calls top_k min_p"
        " chat_template_kwargs",
        "completions": f"{_TEXT} logit_bias top_k min_p",
        "embeddings": f"{_VECTORS} encoding_format",
    },
    "lm-studio": {
        "chat": f"{_CHAT} max_tokens logit_bias top_k",
        "completions": f"{_TEXT} logit_bias top_k",
        "embeddings": _VECTORS,
    },
    "mistral": {
        "chat": f"{_CHAT} max_tokens n parallel_tool_calls prediction random_seed",
        "embeddings": f"{_VECTORS} output_dimension",
    },
    "narthex": {
        "chat": f"{_OPENAI} {_NEWEST} max_tokens max_completion_tokens {_OF_VLLM} {_OLDER_VLLM} {_TEMPLATES}",
        "completions": f"{_OPENAI_TEXT} {_OF_VLLM} {_OLDER_VLLM}",
        "embeddings": f"{_VECTORS} encoding_format dimensions user",
        "images": f"{_PICTURES} {_SIBLINGS}",
        "speech": _SPOKEN,
    },
    "ollama": {
        "chat": f"{_CHAT} max_tokens logprobs top_logprobs reasoning_effort",
        "completions": f"{_TEXT} suffix",
        "embeddings": f"{_VECTORS} encoding_format dimensions",
    },
    "openai": {"chat": f"{_OPENAI} {_NEWEST} max_completion_tokens", **_OF_OPENAI},
    "openai, thinking": {"chat": f"{_OPENAI} {_NEWEST} max_completion_tokens", **_OF_OPENAI},
    "openai-compatible": {"chat": f"{_OPENAI} {_NEWEST} max_tokens max_completion_tokens", **_OF_OPENAI},
    "openrouter": {
        "chat": f"{_CHAT} max_tokens logit_bias logprobs top_logprobs parallel_tool_calls reasoning_effort verbosity"
        " user top_k min_p repetition_penalty provider",
        "embeddings": f"{_VECTORS} encoding_format dimensions user",
    },
    "oxyapi": {
        "chat": f"{_CHAT} max_tokens logit_bias logprobs top_logprobs user functions function_call",
        "embeddings": f"{_VECTORS} encoding_format dimensions user",
        "images": f"prompt model n stream response_format {_SIBLINGS}",
    },
    "sglang": {
        "chat": f"{_CHAT} n logit_bias logprobs top_logprobs max_tokens max_completion_tokens parallel_tool_calls"
        f" reasoning_effort chat_template_kwargs continue_final_message {_OF_SGLANG}",
        "completions": f"{_TEXT} n logit_bias logprobs echo json_schema {_OF_SGLANG}",
        "embeddings": _VECTORS,
    },
    "together": {
        "chat": f"{_CHAT} max_tokens n logit_bias reasoning_effort top_k min_p repetition_penalty",
        "completions": f"{_TEXT} n logit_bias top_k min_p repetition_penalty",
        "embeddings": _VECTORS,
    },
    "vllm": {
        "chat": f"{_CHAT} n logit_bias logprobs top_logprobs max_tokens max_completion_tokens parallel_tool_calls"
        f" reasoning_effort {_OF_VLLM} {_TEMPLATES}",
        "completions": f"{_TEXT} n logit_bias logprobs echo {_OF_VLLM}",
        "embeddings": f"{_VECTORS} encoding_format dimensions",
    },
}
_NOT_THERE: Mapping[tuple[str, str], str] = {
    ("deepseek", "chat"): "seed",
    ("gemini", "chat"): "seed frequency_penalty presence_penalty",
    ("mistral", "chat"): "seed stream_options",
    ("ollama", "chat"): "tool_choice",
    ("oxyapi", "chat"): "stream_options",
    ("sglang", "chat"): "seed",
    ("sglang", "completions"): "seed",
    ("anthropic, always thinking", "chat"): "top_k",
    ("openai, thinking", "chat"): "logit_bias logprobs top_logprobs",
    ("openai, thinking", "completions"): "logit_bias",
}
"""What these do not have of what the others have in common."""
_LIKE = {"deepseek, going on": "deepseek", "mistral, going on": "mistral"}


def documented(row: str, surface: str) -> set[str]:
    """The members that a row's server may be sent, and is sent somewhere on the walk."""
    row = _LIKE.get(row, row)
    return set(_BY_HAND[row][surface].split()) - set(_NOT_THERE.get((row, surface), "").split())


def surfaces(row: str) -> set[str]:
    """Those that a row's server has."""
    return set(_BY_HAND[_LIKE.get(row, row)])


# --- profiles --------------------------------------------------------------------------------------------------------

_THYRIS = (
    "messages model store metadata frequency_penalty presence_penalty logit_bias logprobs top_logprobs max_tokens n"
    " seed max_completion_tokens modalities prediction audio response_format service_tier stop stream stream_options"
    " tools temperature top_p tool_choice parallel_tool_calls user function_call functions"
)
"""The column of that document in contract section 1.2."""
_NOT_OF_OXY = (
    "stream_options max_completion_tokens parallel_tool_calls service_tier store metadata modalities audio prediction"
)
"""What contract section 6 tells as absent."""


def is_of_profile(profile: str, surface: str, field: str) -> bool:
    """Whether a profile's document has a field."""
    if surface == "images":
        return profile == "oxy" or field not in _SIBLINGS.split()
    if surface != "chat":
        return True
    known = profile != "thyris" or field in _THYRIS.split()
    return known and not (profile == "oxy" and field in _NOT_OF_OXY.split())
