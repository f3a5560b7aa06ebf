"""Answers that have begun already: how servers are asked to go on, and what of it is told. No I/O.

White space at the end of a beginning is not sent: Anthropic refuses it and many chat templates trim it, so that nobody
could tell whether the model has seen it. The model says it anew, and it is not told again.
"""

from collections.abc import Iterator, Mapping

import msgspec

from narthex.core.chat import ChatRequest, Message
from narthex.core.stream import ChoiceFinished, Event, Frame, TextDelta
from narthex.core.templates import CONTINUE, GENERATION_PROMPT
from narthex.providers.codec import AnswerDecoder

_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def with_beginning(request: ChatRequest) -> ChatRequest:
    """The same request, with what there is of its answer as the last message: the assistant's.

    Where the caller asks to go on with the last message it is there already, and loses white space at its end.
    """
    begun = beginning_of(request)
    text = begun.rstrip()
    if request.begun:
        return _ending_with(request, Message(role="assistant", content=text), {}, after=len(request.messages))
    if text == begun:
        return request
    *before, last = request.messages
    members = _members(_raws(request.sent["messages"])[-1])
    return _ending_with(request, msgspec.structs.replace(last, content=text), members, after=len(before))


def _ending_with(
    request: ChatRequest, message: Message, members: Mapping[str, msgspec.Raw], *, after: int
) -> ChatRequest:
    """The same request with a message of the assistant's `after` so many others. `members`: what was sent of it."""
    messages = (*request.messages[:after], message)
    written = {**members, "role": message.role, "content": message.content}
    listed = [*_raws(request.sent["messages"])[:after], msgspec.Raw(msgspec.json.encode(written))]
    return msgspec.structs.replace(
        request,
        messages=messages,
        fields={**request.fields, "messages": messages},
        sent={**request.sent, "messages": msgspec.Raw(msgspec.json.encode(listed))},
    )


def beginning_of(request: ChatRequest) -> str:
    """What there is of its answer: one that broke off, or the last message, where the caller asks to go on with it."""
    if request.begun or not request.fields.get(CONTINUE):
        return request.begun
    return request.messages[-1].text


def ends_for_good(request: ChatRequest) -> str:
    """The field that asks for an answer behind a last message of the assistant, not to go on with that; "": none."""
    if request.fields.get(CONTINUE) is False:
        return CONTINUE
    return GENERATION_PROMPT if request.fields.get(GENERATION_PROMPT) else ""


def has_words(request: ChatRequest) -> bool:
    """Whether there is more of its answer than white space."""
    return bool(request.begun.strip())


def after_beginning(decoder: AnswerDecoder, begun: str, *, repeats: bool = False) -> AnswerDecoder:
    """Decodes what follows what there is of an answer. `repeats`: the server says that once more before it goes on."""
    text = begun.rstrip()
    if repeats and text:
        decoder = Unrepeated(decoder, told=text, partly=False)
    space = begun[len(text) :]
    return Unrepeated(decoder, told=space, partly=True) if space else decoder


class Unrepeated:
    """Decodes one answer without what it repeats, at its very beginning, of a text that the caller has.

    `partly`: also if it repeats only the first of that text.
    """

    def __init__(self, decoder: AnswerDecoder, *, told: str, partly: bool) -> None:
        self._decoder = decoder
        self._told = told
        self._partly = partly
        self._held = ""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """See the decoder that was given."""
        return map(self._frame, self._decoder.feed(data))

    def end(self) -> Iterator[Frame]:
        """See the decoder that was given; an answer that comes as one document is told here."""
        return map(self._frame, self._decoder.end())

    def _frame(self, frame: Frame) -> Frame:
        if not self._told:
            return frame
        return Frame.of(*(each for event in frame.events for each in self._each(event)))

    def _each(self, event: Event) -> Iterator[Event]:
        if isinstance(event, TextDelta):
            self._held += event.text
            if self._told.startswith(self._held) and self._held != self._told:
                return
            yield from self._rest(event.choice)
        else:
            if isinstance(event, ChoiceFinished):
                yield from self._rest(event.choice)
            yield event

    def _rest(self, choice: int) -> Iterator[Event]:
        """What is new of the text that was held back."""
        same = _in_common(self._told, self._held)
        if same < len(self._told) and not self._partly:
            same = 0
        rest, self._held, self._told = self._held[same:], "", ""
        if rest:
            yield TextDelta(choice, rest)


def _in_common(one: str, other: str) -> int:
    """How many characters both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (mine, theirs) in pairs if mine != theirs), min(len(one), len(other)))
