"""The answers of `/v4`: those of `/v1`, but for the end of a stream. Source: contract sections 4.6 and 4.7.

Rule: a stream just ends. This API's own client takes every event without a name for JSON, an end mark too.
"""

from collections.abc import Callable, Sequence
from typing import Any

from typing_extensions import override

from narthex.core.errors import NarthexError
from narthex.core.stream import TokenLogprob
from narthex.dialects.legacy_logprobs import ChoiceLogprobs
from narthex.dialects.openai_chat_answer import ChatStream, logprobs_object
from narthex.dialects.openai_completions import CompletionsStream
from narthex.dialects.scale_errors import error_event


class ScaleLogprobs:
    """Those of a text completion, in the form that chats have."""

    def object(self, entries: Sequence[TokenLogprob]) -> dict[str, Any] | None:
        """See `ChoiceLogprobs`."""
        return logprobs_object(entries)


class ScaleChatStream(ChatStream):
    """Writes chunks."""

    mark = b""

    @override
    def error(self, error: NarthexError) -> bytes:
        """The error as an event of its own name; nothing follows it."""
        return error_event(error)


class ScaleCompletionsStream(CompletionsStream):
    """Writes the stream of one text completion."""

    mark = b""
    logprobs: Callable[[], ChoiceLogprobs] = ScaleLogprobs

    @override
    def error(self, error: NarthexError) -> bytes:
        """See `ScaleChatStream.error`."""
        return error_event(error)
