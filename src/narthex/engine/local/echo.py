"""Prompts that are told again before their answers (`echo`)."""

from collections.abc import AsyncIterator, Sequence

import msgspec

from narthex.core.completions import DEFAULT_PROMPT, Prompt
from narthex.core.stream import ChoiceStarted, Event, Frame, TextDelta, TokenLogprob
from narthex.engine.local.probabilities import Vocabulary


class Echo(msgspec.Struct, frozen=True, kw_only=True):
    """A prompt as it is told: its text, and what each of its tokens spells of it."""

    text: str
    pieces: Sequence[bytes]

    @classmethod
    def of(cls, prompt: Prompt, tokens: Sequence[int], vocabulary: Vocabulary) -> "Echo":
        """Of a prompt that was made into tokens.

        A token that the model begins every text by spells nothing, nor does a space that only the tokens have. Where
        tokens spell another text than they were made from, theirs is told: the model has read that one.
        """
        pieces = [vocabulary.pieces[token] for token in tokens]
        if isinstance(prompt, str):
            text = "" if prompt == DEFAULT_PROMPT else prompt
            for begin in (0, 1):
                kept = _spelled(pieces[begin:], text.encode())
                if kept is not None:
                    return cls(text=text, pieces=[b""] * begin + kept)
        return cls(text=b"".join(pieces).decode(errors="replace"), pieces=pieces)


def _spelled(pieces: list[bytes], text: bytes) -> list[bytes] | None:
    """The pieces, where they spell the text, with or without a space before it."""
    joined = b"".join(pieces)
    if joined == text:
        return pieces
    if joined == b" " + text:
        return [pieces[0][1:], *pieces[1:]]
    return None


class Told(msgspec.Struct, frozen=True):
    """What comes before the answers to one prompt. `logprobs` None where none were asked for."""

    text: str
    logprobs: tuple[TokenLogprob, ...] | None = None


async def echoed(frames: AsyncIterator[Frame], told: Sequence[Told], *, n: int) -> AsyncIterator[Frame]:
    """The frames, each choice begun by its prompt; every prompt has `n` choices."""
    async for frame in frames:
        if any(isinstance(event, ChoiceStarted) for event in frame.events):
            frame = Frame.of(*_with_prompts(frame.events, told, n=n))
        yield frame


def _with_prompts(events: Sequence[Event], told: Sequence[Told], *, n: int) -> list[Event]:
    found: list[Event] = []
    for event in events:
        found.append(event)
        if isinstance(event, ChoiceStarted):
            prompt = told[event.choice // n]
            found.append(TextDelta(event.choice, prompt.text, prompt.logprobs))
    return found
