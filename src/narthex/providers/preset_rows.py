"""What most servers of OpenAI's format honour: what the rows of those that are known by name begin with. No I/O.

Source: the vendors' own documentation, November 2026.
"""

from narthex.core import stored
from narthex.core.capabilities import State
from narthex.providers.openai_rows import Rules, functions_only, native, one_function, only
from narthex.providers.traits import ModelTraits

HINTS: Rules = dict.fromkeys(
    (
        "user", "prediction", "audio", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
        "prompt_cache_options",
    ),
    State.NO_EFFECT,
)  # fmt: skip
"""Fields that change no text, accepted without effect."""
CORE: Rules = HINTS | stored.FIELDS | {
    **native(
        "messages", "model", "max_tokens", "temperature", "top_p", "stop", "stream", "stream_options",
        "frequency_penalty", "presence_penalty", "seed", "response_format",
    ),
    "tools": functions_only(),
    "tool_choice": one_function(),
    "service_tier": State.EMULATED,
}  # fmt: skip
"""Chats as nearly every server takes them, one choice at a time."""
TEXTS: Rules = {
    **native(
        "model", "prompt", "max_tokens", "temperature", "top_p", "stop", "stream", "stream_options",
        "frequency_penalty", "presence_penalty", "seed",
    ),
    "user": State.NO_EFFECT,
}  # fmt: skip
"""Completions likewise."""
NO_PENALTIES: Rules = {name: only(name, 0.0) for name in ("frequency_penalty", "presence_penalty")}
"""Where an API knows them, and by its own word none of its models does."""
DIFFUSION: Rules = native("prompt", "model", "n", "stream", "negative_prompt", "steps", "sampler", "seed") | {
    "response_format": State.EMULATED
}
"""Images by models such as Stable Diffusion."""
NUMBERS: Rules = native("model", "input") | {
    "encoding_format": State.EMULATED,
    "dimensions": State.EMULATED,
    "user": State.NO_EFFECT,
}
"""Embeddings likewise: lists of numbers in full length."""
ENCODED: Rules = NUMBERS | native("encoding_format")
"""Embeddings of servers that know base64."""

LIMIT_IS_OLDER = ModelTraits(max_tokens_field="max_tokens")
"""Models that know the limit of an answer by its older name only."""
