"""The codec of servers that speak OpenAI's chat format: what they honour, and how to speak to them. No I/O."""

from collections.abc import Iterable
from functools import partial
from typing import Any

from narthex.core import stored
from narthex.core.capabilities import Capabilities, State, state_of
from narthex.core.chat import ChatRequest
from narthex.core.errors import UnsupportedParameter, UpstreamError
from narthex.core.ports import Request
from narthex.core.sent import Sent
from narthex.core.stream import Frame
from narthex.core.templates import CONTINUE
from narthex.core.tools import CACHED
from narthex.providers import openai_older
from narthex.providers.beginning import after_beginning, beginning_of, ends_for_good, has_words, with_beginning
from narthex.providers.codec import AnswerDecoder, of_kind, only_frame
from narthex.providers.openai import PATH, ChatDecoder
from narthex.providers.openai_older import FunctionAnswer, Rewriting
from narthex.providers.openai_refusals import refusal
from narthex.providers.openai_rows import (
    Row,
    Rules,
    body,
    body_around,
    for_model,
    native,
    native_fields,
    native_names,
    without,
    without_choice,
)
from narthex.providers.openai_whole import EitherWay, WholeChat, read_whole
from narthex.providers.retold import Retold
from narthex.providers.traits import ModelTraits

HONOURED: Rules = native(
    "messages", "model", "frequency_penalty", "presence_penalty", "logit_bias", "logprobs",
    "top_logprobs", "max_tokens", "max_completion_tokens", "n", "modalities", "prediction", "audio",
    "response_format", "seed", "service_tier", "stop", "stream", "stream_options", "temperature", "top_p", "tools",
    "tool_choice", "parallel_tool_calls", "user", "function_call", "functions", "reasoning_effort", "verbosity",
    "web_search_options", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
    "prompt_cache_options", "moderation",
) | stored.FIELDS  # fmt: skip
"""What OpenAI itself honours, and what we do for it."""
AS_SENT = ModelTraits(developer=True, functions=True)
"""A model that takes everything as the caller wrote it."""

_LIMITS = ("max_completion_tokens", "max_tokens")  # the first wins (contract 1.2)
_OLDER = ("functions", "function_call")
_AS_IT_COMES = frozenset(("functions", CONTINUE))
"""Fields whose answers may have to be told anew."""


class OpenAIChat:
    """Chats with one model. See `Codec`."""

    path = PATH

    def __init__(self, row: Row | None = None, traits: ModelTraits = AS_SENT) -> None:
        """`row`: of the server; None: OpenAI's own."""
        self._row = row or Row(honoured=HONOURED)
        self._traits = traits
        self._honoured = _emulations(for_model(self._row.honoured, traits), traits)
        self._native = native_names(self._honoured)
        self._plain = self._row.whole and self._row.relays
        self._continues_last = state_of(CONTINUE, self._honoured) is State.EMULATED
        self._always_continues = self._continues_last and not self._row.continues
        self._rewriting = Rewriting(
            developer=traits.developer,
            functions=traits.functions,
            continues=self._row.continues if traits.prefill else "",
            own_members=self._row.own_members,
        )

    def build(self, request: Request, *, model: str) -> bytes:
        """See `Codec.build`. The caller's own fields; a stream is asked for with usage.

        Raises:
            UnsupportedParameter: see `_begun`.
        """
        asked = of_kind(request, ChatRequest)
        sent = asked.sent
        if (
            isinstance(sent, Sent)
            and not (asked.begun or openai_older.continued(asked))
            and (messages := self._rewriting.messages(asked)) is sent["messages"]
        ):
            key = (self, model, asked.stream)
            around = sent.alike.made.get(key)
            if around is None:
                around = sent.alike.made[key] = self._around(asked, model)
            return b"%b%b%b" % (around[0], messages, around[1])
        asked = self._begun(asked)
        return body(self.members(asked), self._row, model=model, streams=self._streams(asked))

    def _around(self, request: ChatRequest, model: str) -> tuple[bytes, bytes]:
        """What is sent before and after the messages, whichever they are: see `Alike`."""
        return body_around("messages", self.members(request), self._row, model=model, streams=self._streams(request))

    def _begun(self, request: ChatRequest) -> ChatRequest:
        """As the server is sent it.

        Raises:
            UnsupportedParameter: it would go on with the last message, which is to be answered.
        """
        if request.begun or (self._continues_last and request.fields.get(CONTINUE)):
            return with_beginning(request)
        if self._always_continues and (field := ends_for_good(request)) and openai_older.continued(request):
            message = f"'{field}' is not supported: the model's server goes on with a last message of the assistant."
            raise UnsupportedParameter(message, param=field, code="unsupported_value")
        return request

    def _streams(self, request: ChatRequest) -> bool:
        return request.stream or not self._row.whole

    def members(self, request: ChatRequest) -> dict[str, Any]:
        """What the caller sent, as far as the server takes it, in the form in which it does; by our names."""
        members = native_fields(request, self._native)
        members["messages"] = self._rewriting.messages(request)
        if CACHED in request.fields and CACHED not in self._native and "tools" in members:
            members["tools"] = openai_older.uncached(request.sent["tools"])
        field = self._traits.max_tokens_field
        if field is not None:
            for name in _LIMITS:
                if name in request.sent:
                    members[field] = request.sent[name]
                    break
        if not self._traits.functions and (older := openai_older.tools(request)):
            members |= older
            if "parallel_tool_calls" in self._native:
                members["parallel_tool_calls"] = False
        if "tool_choice" not in self._native:
            self._choose(members, request)
        return members

    def _choose(self, members: dict[str, Any], request: ChatRequest) -> None:
        """For a server without `tool_choice`: tools that must not be called are not told."""
        members.pop("tool_choice", None)
        if "none" in (request.fields.get("tool_choice"), request.fields.get("function_call")):
            members.pop("tools", None)
            members.pop("parallel_tool_calls", None)

    def decoder(self, request: Request) -> AnswerDecoder:
        """See `Codec.decoder`."""
        asked = of_kind(request, ChatRequest)
        choices = asked.sampling.n
        if self._streams(asked):
            decoder: AnswerDecoder = ChatDecoder(choices=choices)
        else:
            decoder = EitherWay(WholeChat(choices=choices), partial(ChatDecoder, choices=choices))
        if not self._row.relays:
            decoder = Retold(decoder)
        begun = beginning_of(asked) if self._continues_last else asked.begun
        decoder = after_beginning(decoder, begun, repeats=self._row.repeats)
        older = "functions" in asked.fields and not self._traits.functions
        return FunctionAnswer(decoder) if older else decoder

    def read(self, request: Request, body: bytes) -> Frame | None:
        """See `Codec.read`."""
        asked = of_kind(request, ChatRequest)
        whole = self._plain and body.startswith(b"{") and asked.sampling.n == 1
        plain = whole and _AS_IT_COMES.isdisjoint(asked.fields) and not (asked.stream or asked.begun)
        return read_whole(body, choices=1) if plain else only_frame(self.decoder(asked), body)

    def parse_error(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> UpstreamError:
        """See `Codec.parse_error`."""
        return refusal(status, headers, body)

    def continues(self, request: Request) -> bool:
        """See `Codec.continues`."""
        return self._traits.prefill and has_words(of_kind(request, ChatRequest))

    def capabilities(self) -> Capabilities:
        """See `Codec.capabilities`."""
        return self._honoured


def _emulations(honoured: Capabilities, traits: ModelTraits) -> Capabilities:
    """The same with what we make of fields that the model does not take as they are."""
    ours: Rules = {}
    if traits.max_tokens_field in honoured:
        ours |= {name: State.EMULATED for name in _LIMITS if name != traits.max_tokens_field}
    if not traits.functions and "tools" in honoured:
        chooses = state_of("tool_choice", honoured) is State.NATIVE
        ours["functions"] = State.EMULATED
        ours["function_call"] = State.EMULATED if chooses else without_choice("function_call")
    if traits.prefill and CONTINUE not in honoured:
        ours[CONTINUE] = State.EMULATED
    return {**honoured, **without(ours, traits.refused)}
