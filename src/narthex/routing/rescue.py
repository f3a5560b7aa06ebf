"""What a caller has of an answer that broke off, what the next deployment is asked for, and what of that is told.

Source: ARCHITECTURE D4; contract section 1.3.

Rule 1: the next one goes on from what the caller has, and not from what the last one may have generated.
Rule 2: the caller sees one answer: each choice begins once, and the prompt counts once in its usage. What is read a
second time to go on is the gateway's to pay.
Rule 3: what can't be gone on with exactly is not gone on with.
"""

from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

import msgspec

from narthex.core.chat import ChatRequest
from narthex.core.completions import DEFAULT_PROMPT, CompletionRequest
from narthex.core.errors import UpstreamProtocolError
from narthex.core.ports import Request
from narthex.core.stream import (
    ChoiceFinished,
    ChoiceStarted,
    Event,
    Frame,
    ReasoningDelta,
    TextDelta,
    Usage,
    UsageGoingOn,
    UsageReported,
)

_LIMITS = ("max_tokens", "max_completion_tokens")
_NEVER = frozenset(
    (
        "tools", "functions", "audio", "web_search_options", "structured_outputs", "add_generation_prompt",
        "continue_final_message", "min_tokens",
    )
)  # fmt: skip
_GUIDED = "guided_"
_UNREAD = 128
"""Frames that are kept as they came: most streams end well, and nobody asks what was in them."""


def can_be_rescued(request: Request) -> TypeGuard[ChatRequest | CompletionRequest]:
    """Whether an answer to it may be gone on with: one choice of plain text, as a stream."""
    match request:
        case ChatRequest():
            # The answer to a conversation that ends with the assistant's words may itself be a continuation.
            fits = request.response_format is None and request.messages[-1].role != "assistant"
        case CompletionRequest():
            alone = len(request.prompts) == 1 and isinstance(request.prompts[0], str)
            plain = request.best_of == 1 and not request.echo and not request.suffix
            fits = alone and plain and request.prompts[0] not in {"", DEFAULT_PROMPT}
        case _:
            return False
    constrained = any(name in _NEVER or name.startswith(_GUIDED) for name in request.fields)
    sampling = request.sampling
    return request.stream and fits and not constrained and sampling.n == 1 and sampling.logprobs is None


class Told:
    """What a caller has been told of one answer, by however many attempts. For requests that `can_be_rescued`."""

    def __init__(self, request: ChatRequest | CompletionRequest) -> None:
        self._request = request
        self._unread: list[Frame] = []
        self._pieces: list[str] = []
        self._thoughts = 0
        self._final = False
        self._begun_pieces: int | None = None  # of the attempt under way; None: it answers from the beginning

    def next(self, frame: Frame) -> Frame:
        """A frame of the attempt under way, as the caller is to have it.

        Raises:
            UpstreamProtocolError: it does not go on with the answer, or can't be read.
        """
        if self._begun_pieces is not None:
            frame = Frame.of(*self._following(frame.events, self._begun_pieces))
        self._unread.append(frame)
        if len(self._unread) == _UNREAD:
            self._read()
        return frame

    def continuation(self) -> Request | None:
        """What to ask for so that the answer goes on; None where that can't be. The next frames belong to it."""
        self._read()
        if self._final or not self._pieces:
            return None
        self._begun_pieces = len(self._pieces)
        request, begun = self._request, "".join(self._pieces)
        limit = request.sampling.max_tokens
        if limit is None:
            return msgspec.structs.replace(request, begun=begun)
        left = limit - self._spent
        fields: Mapping[str, Any] = {name: left for name in _LIMITS if name in request.fields}
        return msgspec.structs.replace(
            request,
            begun=begun,
            sampling=msgspec.structs.replace(request.sampling, max_tokens=left),
            fields={**request.fields, **fields},
            sent={**request.sent, **{name: msgspec.Raw(b"%d" % left) for name in fields}},
        )

    @property
    def at_its_limit(self) -> Frame | None:
        """The end of an answer that broke off where it had to end anyway; None where there is more to come."""
        self._read()
        limit = self._request.sampling.max_tokens
        if self._final or limit is None or self._spent < limit:
            return None
        usage = Usage(prompt_tokens=0, completion_tokens=self._spent, reasoning_tokens=self._thoughts)
        return Frame.of(ChoiceFinished(0, "length"), UsageReported(usage))

    @property
    def _spent(self) -> int:
        """About how many tokens the caller has: servers send each in a piece of its own, or a few together."""
        return len(self._pieces) + self._thoughts

    def _read(self) -> None:
        try:
            for frame in self._unread:
                for event in frame.events:
                    self._note(event)
        except UpstreamProtocolError:
            self._final = True  # nobody knows what the caller has of it
        self._unread.clear()

    def _note(self, event: Event) -> None:
        if isinstance(event, TextDelta):
            if event.text:
                self._pieces.append(event.text)
        elif isinstance(event, ReasoningDelta):
            self._thoughts += 1
        elif not isinstance(event, ChoiceStarted):
            self._final = True  # it has ended, or is no plain text

    def _following(self, events: tuple[Event, ...], begun: int) -> Iterator[Event]:
        for event in events:
            match event:
                case TextDelta() | ChoiceFinished():
                    yield event
                case UsageReported(usage):
                    yield UsageReported(self._together(usage, begun))
                case ChoiceStarted():
                    pass
                case _:
                    raise UpstreamProtocolError("The model's server did not go on with the answer.")

    def _together(self, last: Usage, begun: int) -> Usage:
        """The usage of the whole answer, from that of the attempt which ended it."""
        begun = last.begun_tokens if isinstance(last, UsageGoingOn) else min(begun, last.prompt_tokens)
        prompt = last.prompt_tokens - begun
        return msgspec.structs.replace(
            last,
            prompt_tokens=prompt,
            cached_tokens=min(last.cached_tokens, prompt),
            completion_tokens=last.completion_tokens + begun + self._thoughts,
            reasoning_tokens=last.reasoning_tokens + self._thoughts,
        )
