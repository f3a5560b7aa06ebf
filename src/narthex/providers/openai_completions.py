"""OpenAI's completions format as a provider speaks it: requests to it, and its streams to frames. No I/O.

Source: contract section 1.6.

Rule: the limit of the answer is always sent, since servers differ in what they do without.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
from typing_extensions import override

from narthex.core.capabilities import Capabilities, State, state_of
from narthex.core.completions import DEFAULT_PROMPT, OTHER_NAMES, CompletionRequest
from narthex.core.errors import UpstreamError, UpstreamProtocolError
from narthex.core.ports import Request
from narthex.core.stream import (
    ChoiceFinished,
    ChoiceStarted,
    Event,
    Frame,
    TextDelta,
    TokenLogprob,
    Usage,
    UsageReported,
)
from narthex.providers.best_of import BestOf
from narthex.providers.codec import AnswerDecoder, UsualCodec, of_kind
from narthex.providers.openai import FINISH_REASONS, WireUsage, usage_of
from narthex.providers.openai_codec import AS_SENT
from narthex.providers.openai_errors import stream_error
from narthex.providers.openai_refusals import refusal
from narthex.providers.openai_rows import (
    Row,
    Rules,
    body,
    for_model,
    native,
    native_fields,
    native_names,
    up_to,
    without,
)
from narthex.providers.openai_whole import LIMIT_BYTES, EitherWay
from narthex.providers.traits import ModelTraits
from narthex.providers.whole import Document
from narthex.wire.json import UNREADABLE
from narthex.wire.sse import SseDecoder

PATH = "/completions"
HONOURED: Rules = native(
    "model", "prompt", "echo", "frequency_penalty", "logit_bias", "logprobs", "max_tokens", "n", "presence_penalty",
    "seed", "stop", "stream", "stream_options", "suffix", "temperature", "top_p", "user",
) | {"best_of": State.EMULATED}  # fmt: skip
"""What OpenAI itself honours. `best_of` it does only without a stream."""

MOST_RIVALS = 5
"""Of each token, in this format."""
_BYTES = "bytes:"
_ESCAPE = "\\x"


class OpenAICompletions(UsualCodec):
    """Completions by one model. See `Codec`."""

    path = PATH

    def __init__(self, row: Row | None = None, traits: ModelTraits = AS_SENT) -> None:
        """`row`: of the server; None: OpenAI's own."""
        self._row = row or Row(honoured=HONOURED)
        self._honoured = _by_other_names(for_model(self._row.honoured, traits), traits)
        self._native = native_names(self._honoured)

    def build(self, request: Request, *, model: str) -> bytes:
        """See `Codec.build`. The caller's own fields; a stream is asked for with usage."""
        asked = of_kind(request, CompletionRequest)
        return body(self.members(asked), self._row, model=model, streams=self._streams(asked))

    def _streams(self, request: CompletionRequest) -> bool:
        return request.stream or not self._row.whole

    def members(self, request: CompletionRequest) -> dict[str, Any]:
        """What the caller sent, as far as the server takes it, in the form in which it does; by our names."""
        members = native_fields(request, self._native)
        members["max_tokens"] = request.sampling.max_tokens
        if request.fields["prompt"] is None:
            members["prompt"] = DEFAULT_PROMPT
        if request.begun:
            members["prompt"] = f"{request.prompts[0]}{request.begun}"
        if self._ranks(request):
            members |= {"n": request.best_of, "logprobs": request.sampling.logprobs or 0}
        return members

    def _ranks(self, request: CompletionRequest) -> bool:
        """Whether more is asked of the server than of us."""
        return request.best_of > request.sampling.n and state_of("best_of", self._honoured) is State.EMULATED

    def decoder(self, request: Request) -> AnswerDecoder:
        """See `Codec.decoder`."""
        asked = of_kind(request, CompletionRequest)
        sampling, prompts = asked.sampling, len(asked.prompts)
        choices = prompts * (asked.best_of if self._ranks(asked) else sampling.n)
        decoder: AnswerDecoder = CompletionsDecoder(choices=choices)
        if not self._streams(asked):
            decoder = EitherWay(WholeCompletions(choices=choices), partial(CompletionsDecoder, choices=choices))
        if not self._ranks(asked):
            return decoder
        return BestOf(
            decoder,
            best_of=asked.best_of,
            n=sampling.n,
            with_logprobs=sampling.logprobs is not None,
            echoed=asked.prompts if asked.echo else (),
        )

    def parse_error(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> UpstreamError:
        """See `Codec.parse_error`."""
        return refusal(status, headers, body)

    @override
    def continues(self, request: Request) -> bool:
        """See `Codec.continues`."""
        return True  # the prompt has grown

    def capabilities(self) -> Capabilities:
        """See `Codec.capabilities`."""
        return self._honoured


def _by_other_names(honoured: Capabilities, traits: ModelTraits) -> Capabilities:
    """The same with what else the fields are called."""
    others: Rules = {other: State.EMULATED for other, name in OTHER_NAMES.items() if name in honoured}
    if "top_logprobs" in others:
        others["top_logprobs"] = up_to("top_logprobs", MOST_RIVALS)
    return {**without(others, traits.refused), **honoured}


# --- the wire, as far as we read it --------------------------------------------------------------------------------


class _Logprobs(msgspec.Struct):
    tokens: list[str] = []
    token_logprobs: list[float | None] = []
    top_logprobs: list[dict[str, float] | None] | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    text: str | None = None
    logprobs: _Logprobs | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: WireUsage | None = None
    error: Any = None


_chunk = msgspec.json.Decoder(_Chunk).decode


# --- from the wire to frames ---------------------------------------------------------------------------------------


class CompletionsDecoder:
    """Decodes one answer. `choices`: how many were asked for over all prompts, and so have to finish."""

    def __init__(self, *, choices: int) -> None:
        self._sse = SseDecoder()
        self._choices = choices
        self._started: set[int] = set()
        self._finished: set[int] = set()
        self._usage: Usage | None = None
        self._done = False

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete with `data`; go through all of them.

        Raises:
            UpstreamError: the server reported an error, after the frames that came before it.
            UpstreamProtocolError: what it sent can't be read.
        """
        for event in self._sse.feed(data):
            if self._done:
                return
            if event.data == b"[DONE]":
                self._done = True
            elif events := tuple(self.events(event.data)):
                yield Frame.of(*events)

    def end(self) -> Iterator[Frame]:
        """The body has ended: the last frame, with the usage, if there was any.

        Raises:
            UpstreamProtocolError: the answer is not complete.
        """
        if len(self._finished) < self._choices:
            raise UpstreamProtocolError("The model's server ended its answer before it was complete.")
        if self._usage is not None:
            yield Frame.of(UsageReported(self._usage))

    def events(self, data: bytes) -> Iterator[Event]:
        """The events of one chunk. Raises as `feed` does."""
        try:
            chunk = _chunk(data)
        except UNREADABLE as error:
            raise UpstreamProtocolError from error
        if chunk.error:
            raise stream_error(chunk.error)
        if chunk.usage is not None:
            self._usage = usage_of(chunk.usage)
        for choice in chunk.choices or ():
            if choice.index not in self._finished:
                yield from self._choice(choice)

    def _choice(self, choice: _Choice) -> Iterator[Event]:
        if not 0 <= choice.index < self._choices:
            raise UpstreamProtocolError("The model's server sent an answer that nobody asked for.")
        if choice.index not in self._started:
            self._started.add(choice.index)
            yield ChoiceStarted(choice.index)
        entries = _entries(choice.logprobs) if choice.logprobs is not None else ()
        if choice.text or entries:
            yield TextDelta(choice.index, choice.text or "", entries or None)
        if choice.finish_reason:
            if choice.finish_reason not in FINISH_REASONS:
                raise UpstreamProtocolError("The model's server broke off its answer.")
            self._finished.add(choice.index)
            yield ChoiceFinished(choice.index, FINISH_REASONS[choice.finish_reason])


class WholeCompletions(Document):
    """Decodes an answer that comes as one document, which looks as a single chunk does."""

    def __init__(self, *, choices: int) -> None:
        super().__init__(limit_bytes=LIMIT_BYTES)
        self._decoder = CompletionsDecoder(choices=choices)

    def end(self) -> Iterator[Frame]:
        """The answer, and what it used.

        Raises:
            UpstreamError: the server reported an error in place of an answer.
            UpstreamProtocolError: it can't be read, or is not complete.
        """
        events = [*self._decoder.events(self.whole())]
        last = [*self._decoder.end()]  # before anything is told of an answer that is not complete
        yield Frame.of(*events, *(event for frame in last for event in frame.events))


def _entries(logprobs: _Logprobs) -> tuple[TokenLogprob, ...]:
    tops: Sequence[Mapping[str, float] | None] = logprobs.top_logprobs or [None] * len(logprobs.tokens)
    try:
        columns = zip(logprobs.tokens, logprobs.token_logprobs, tops, strict=True)
        return tuple(_entry(token, logprob, top or {}) for token, logprob, top in columns)
    except ValueError as error:
        raise UpstreamProtocolError from error


def _entry(name: str, logprob: float | None, top: Mapping[str, float]) -> TokenLogprob:
    rivals = sorted(top.items(), key=lambda rival: -rival[1])
    return _token(name, logprob, tuple(_token(*rival) for rival in rivals))


def _token(name: str, logprob: float | None, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
    r"""A token by its name. What is no text is written as `bytes:\xf0\x9f`."""
    data = name.encode()
    if name.startswith(_BYTES) and _ESCAPE in name:
        token = name.removeprefix(_BYTES)
        with contextlib.suppress(ValueError):  # a text may happen to begin so
            data, name = token.encode("latin-1").decode("unicode_escape").encode("latin-1"), token
    return TokenLogprob(token=name, logprob=logprob, bytes_=data, top=top)
