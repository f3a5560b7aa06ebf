"""vLLM: OpenAI's format with further sampling fields and constrained output. No I/O.

Source: contract section 7; vLLM's own protocol, 0.33. It ignores fields that it doesn't know, so only what it does know
is sent, and what it dropped is translated.

Rule: greedy requests for several choices, which it refuses, are asked once and told as often (contract Q25).
"""

from typing import Any

import msgspec
from msgspec import UNSET
from typing_extensions import override

from narthex.core import stored
from narthex.core.capabilities import State
from narthex.core.chat import ChatRequest, Sampling
from narthex.core.completions import CompletionRequest
from narthex.core.ports import Request
from narthex.core.templates import CONTINUE, GENERATION_PROMPT
from narthex.providers.beginning import has_words
from narthex.providers.codec import AnswerDecoder, of_kind
from narthex.providers.openai_codec import OpenAIChat
from narthex.providers.openai_completions import OpenAICompletions
from narthex.providers.openai_older import continued
from narthex.providers.openai_rows import Row, Rules, functions_only, native, one_function
from narthex.providers.repeated import Repeated
from narthex.providers.traits import ModelTraits
from narthex.providers.vllm_constraints import CONSTRAINED, structured

GREEDY_BELOW = 1e-5
"""Temperatures that vLLM takes for 0."""
_TOLD = frozenset((CONTINUE, GENERATION_PROMPT))
"""Fields by which a caller says what becomes of the last message."""

_EXTENSIONS: Rules = native(
    "top_k", "min_p", "repetition_penalty", "stop_token_ids", "include_stop_str_in_output", "ignore_eos", "min_tokens",
    "add_special_tokens",
)  # fmt: skip
_SHARED: Rules = native(
    "model", "frequency_penalty", "presence_penalty", "logit_bias", "logprobs", "max_tokens", "n", "seed", "stop",
    "stream", "stream_options", "temperature", "top_p",
) | {"user": State.NO_EFFECT, "length_penalty": State.NO_EFFECT}  # fmt: skip

CHAT: Rules = (
    _SHARED
    | _EXTENSIONS
    | CONSTRAINED
    | stored.FIELDS
    | native(
        "messages", "top_logprobs", "max_completion_tokens", "response_format", "parallel_tool_calls",
        "reasoning_effort", "add_generation_prompt", "continue_final_message", "chat_template", "chat_template_kwargs",
        "echo",
    )
    | dict.fromkeys(
        (
            "prediction", "audio", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
            "prompt_cache_options",
        ),
        State.NO_EFFECT,
    )
    | {
        "tools": functions_only(),
        "tool_choice": one_function(),
        "service_tier": State.EMULATED,
    }
)  # fmt: skip
COMPLETIONS: Rules = (
    _SHARED
    | _EXTENSIONS
    | CONSTRAINED
    | native("prompt", "echo")
    | {
        "best_of": State.EMULATED,
        "top_logprobs": State.EMULATED,
    }
)
EMBEDDINGS: Rules = native("model", "input", "encoding_format", "dimensions") | {"user": State.NO_EFFECT}


class VllmChat(OpenAIChat):
    """Chats with one model on vLLM. See `Codec`."""

    def __init__(self, traits: ModelTraits) -> None:
        super().__init__(Row(honoured=CHAT), traits)

    @override
    def members(self, request: ChatRequest) -> dict[str, Any]:
        """See `OpenAIChat.members`."""
        members = _sampled(super().members(request), request.sampling)
        if self._goes_on(request):
            members |= {CONTINUE: True, GENERATION_PROMPT: False}
        wanted = request.fields.get("response_format", {})
        if "schema" not in wanted.get("json_schema", {"schema": None}):  # any object will do
            members["response_format"] = {"type": "json_object"}
        return members | _constrained(request)

    def _goes_on(self, request: ChatRequest) -> bool:
        """Whether the last message is to be continued."""
        if request.begun or request.fields.get(CONTINUE):
            return True
        return self._traits.prefill and continued(request) and not (_TOLD & request.fields.keys())

    @override
    def continues(self, request: Request) -> bool:
        """See `Codec.continues`. Of a model that thinks first the server takes what it continues for thoughts."""
        return not self._traits.reasoning and has_words(of_kind(request, ChatRequest))

    @override
    def decoder(self, request: Request) -> AnswerDecoder:
        """See `Codec.decoder`."""
        asked = of_kind(request, ChatRequest)
        if asked.sampling.n == 1 or not _greedy(asked.sampling):
            return super().decoder(asked)
        once = msgspec.structs.replace(asked, sampling=msgspec.structs.replace(asked.sampling, n=1))
        return Repeated(super().decoder(once), times=asked.sampling.n)


class VllmCompletions(OpenAICompletions):
    """Completions by one model on vLLM. See `Codec`."""

    def __init__(self, traits: ModelTraits) -> None:
        super().__init__(Row(honoured=COMPLETIONS), traits)

    @override
    def members(self, request: CompletionRequest) -> dict[str, Any]:
        """See `OpenAICompletions.members`."""
        asked = _once(request) if _greedy(request.sampling) else request
        return _sampled(super().members(asked), request.sampling) | _constrained(request)

    @override
    def decoder(self, request: Request) -> AnswerDecoder:
        """See `Codec.decoder`."""
        asked = of_kind(request, CompletionRequest)
        if asked.best_of == 1 or not _greedy(asked.sampling):
            return super().decoder(asked)
        return Repeated(super().decoder(_once(asked)), times=asked.sampling.n)


def _greedy(sampling: Sampling) -> bool:
    """Whether every choice would be the same."""
    return (sampling.temperature is not UNSET and sampling.temperature < GREEDY_BELOW) or sampling.top_p == 0


def _once(request: CompletionRequest) -> CompletionRequest:
    return msgspec.structs.replace(request, best_of=1, sampling=msgspec.structs.replace(request.sampling, n=1))


def _sampled(members: dict[str, Any], sampling: Sampling) -> dict[str, Any]:
    """The same for a server that takes neither several greedy choices nor a `top_p` of 0: only the top token."""
    if not _greedy(sampling):
        return members
    greedy = {name: value for name, value in members.items() if name not in {"n", "top_p"}}
    return greedy | {"temperature": 0}


def _constrained(request: ChatRequest | CompletionRequest) -> dict[str, Any]:
    """`structured_outputs`, if the request has older fields that stand for it."""
    older = structured(request.sent)
    return {"structured_outputs": older} if older else {}
