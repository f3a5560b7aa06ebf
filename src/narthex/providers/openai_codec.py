"""The row of servers that speak OpenAI's chat format: what they honour, and how to speak to them. No I/O."""

from collections.abc import Iterable

from narthex.core.capabilities import Capabilities, State
from narthex.core.chat import ChatRequest
from narthex.core.errors import NarthexError, UpstreamError
from narthex.core.ports import Request
from narthex.providers.openai import PATH, ChatDecoder, build
from narthex.providers.openai_errors import parse_error

HONOURED: Capabilities = dict.fromkeys(
    (
        "messages", "model", "store", "metadata", "frequency_penalty", "presence_penalty", "logit_bias", "logprobs",
        "top_logprobs", "max_tokens", "max_completion_tokens", "n", "modalities", "prediction", "audio",
        "response_format", "seed", "service_tier", "stop", "stream", "stream_options", "temperature", "top_p", "tools",
        "tool_choice", "parallel_tool_calls", "user", "function_call", "functions", "reasoning_effort", "verbosity",
        "web_search_options", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
        "prompt_cache_options", "moderation",
    ),
    State.NATIVE,
)  # fmt: skip


class OpenAIChat:
    """See `Codec`."""

    path = PATH

    def build(self, request: Request, *, model: str) -> bytes:
        """See `Codec.build`."""
        return build(_chat(request), model=model)

    def decoder(self, request: Request) -> ChatDecoder:
        """See `Codec.decoder`."""
        return ChatDecoder(choices=_chat(request).sampling.n)

    def parse_error(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> UpstreamError:
        """See `Codec.parse_error`."""
        return parse_error(status, list(headers), body)

    def capabilities(self) -> Capabilities:
        """See `Codec.capabilities`."""
        return HONOURED


def _chat(request: Request) -> ChatRequest:
    if not isinstance(request, ChatRequest):
        raise NarthexError("this codec is for chats")
    return request
