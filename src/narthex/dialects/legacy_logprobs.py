"""The `logprobs` of `/v1/completions`: four lists, an element of each for every token. Source: contract section 1.6."""

import codecs
from collections.abc import Sequence
from typing import Any, Protocol

from narthex.core.stream import TokenLogprob


class ChoiceLogprobs(Protocol):
    """The `logprobs` of one choice, whole or chunk by chunk, in whichever form."""

    def object(self, entries: Sequence[TokenLogprob]) -> dict[str, Any] | None:
        """Of the next entries of the choice."""
        ...


class LegacyLogprobs:
    """Those of one choice, whole or chunk by chunk. Offsets count code points from the beginning of its text."""

    def __init__(self) -> None:
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0

    def object(self, entries: Sequence[TokenLogprob]) -> dict[str, Any]:
        """Of the next entries of the choice.

        A token that is no whole characters begins where the character does that it is part of.
        """
        return {
            "tokens": [_name(entry) for entry in entries],
            "token_logprobs": [entry.logprob for entry in entries],
            "top_logprobs": [_rivals(entry) for entry in entries],
            "text_offset": [self._begin(entry) for entry in entries],
        }

    def _begin(self, entry: TokenLogprob) -> int:
        offset = self._offset
        self._offset += len(self._characters.decode(entry.data))
        return offset


def _name(entry: TokenLogprob) -> str:
    r"""Its text; what is no text is written as OpenAI does, `bytes:\xf0\x9f`."""
    try:
        (entry.bytes_ or b"").decode()
    except UnicodeDecodeError:
        return f"bytes:{entry.token}"
    return entry.token


def _rivals(entry: TokenLogprob) -> dict[str, float | None] | None:
    """The likeliest tokens, best first, and the chosen one always; null where nothing comes before the token."""
    if entry.logprob is None:
        return None
    return {_name(rival): rival.logprob for rival in entry.top} | {_name(entry): entry.logprob}
