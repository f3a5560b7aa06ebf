"""The canonical request of the older completions endpoint. Source: contract section 1.6."""

from collections.abc import Mapping
from typing import Any

import msgspec

from narthex.core.chat import Sampling, StreamOptions
from narthex.core.constrained import Constraint

OTHER_NAMES: Mapping[str, str] = {
    "max_completion_tokens": "max_tokens",
    "max_new_tokens": "max_tokens",
    "return_token_log_probs": "logprobs",
    "stop_sequences": "stop",
    "top_logprobs": "logprobs",
}
"""Fields that one surface names otherwise, with the name that all others have for what they ask for."""

DEFAULT_PROMPT = "<|endoftext|>"
"""What a prompt of null means: the beginning of a new text."""

Prompt = str | tuple[int, ...]
"""Text, or token ids of the model's own tokenizer."""


class CompletionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One completions call. Its answer has `len(prompts) * n` choices, prompt-major."""

    model: str
    prompts: tuple[Prompt, ...]
    sampling: Sampling
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    echo: bool = False
    best_of: int = 1
    """How many choices to make for each prompt; the best `sampling.n` of them are the answer."""
    suffix: str = ""
    guided: Constraint | None = None
    """What the generated text has to be; None: any text."""
    fields: Mapping[str, Any]
    sent: Mapping[str, msgspec.Raw]
    begun: str = ""
    """As in `ChatRequest`; there is one prompt then, and it is a text."""

    @property
    def constraint(self) -> Constraint | None:
        """What the generated text has to be; None: any text."""
        return self.guided
