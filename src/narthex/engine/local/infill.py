"""Filling in between a prompt and a `suffix`, for models that were trained to. Source: contract 1.6 and Q22."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

_KEYS = (
    ("tokenizer.ggml.fim_pre_token_id", "tokenizer.ggml.prefix_token_id"),
    ("tokenizer.ggml.fim_suf_token_id", "tokenizer.ggml.suffix_token_id"),
    ("tokenizer.ggml.fim_mid_token_id", "tokenizer.ggml.middle_token_id"),
)
"""Where a GGUF declares the tokens: the key, and the older one."""


class FillIn(msgspec.Struct, frozen=True):
    """The ids of the tokens before the prefix, before the suffix, and before what is to be filled in."""

    prefix: int
    suffix: int
    middle: int

    def prompt(self, begin: Sequence[int], before: Sequence[int], after: Sequence[int]) -> list[int]:
        """The prompt as the model knows it. `begin`: what it begins every text by."""
        return [*begin, self.prefix, *before, self.suffix, *after, self.middle]


def fill_in_of(metadata: Mapping[str, Any]) -> FillIn | None:
    """What a GGUF's metadata declares; None where the model can't fill in."""
    found = [[metadata[key] for key in keys if isinstance(metadata.get(key), int)] for keys in _KEYS]
    return FillIn(*(ids[0] for ids in found)) if all(found) else None
