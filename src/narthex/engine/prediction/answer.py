"""Generates an answer with the help of its prediction: tokens that are right cost a share of a batch each.

Source: Leviathan et al., "Fast Inference from Transformers via Speculative Decoding" (2023), with a draft that the
caller wrote: a token is taken exactly when the model chooses it, so the text is the one that comes without a draft.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from narthex.engine.prediction.draft import Draft


class Text(Protocol):
    """See `llama_c.Text`."""

    tokens: list[int]

    def feed(self, tokens: Sequence[int], *, rows: bool) -> None:
        """Append tokens."""
        ...

    def keep(self, count: int) -> None:
        """Take back all but the first `count`."""
        ...


Wanted = Callable[[], bool]


Choose = Callable[[int], int]
"""Chooses what comes after the token at a place of the last batch; -1: the last token that has logits."""


class GivenUp(Exception):
    """Nobody wants the answer any more."""


def read(text: Text, prompt: Sequence[int], *, batch: int, wanted: Wanted) -> int:
    """Make `text` hold a prompt; how many of its tokens it held already. The last one is always read.

    Raises:
        GivenUp: between two batches, when it isn't wanted any more.
    """
    held = 0
    for ours, theirs in zip(text.tokens, prompt[:-1], strict=False):
        if ours != theirs:
            break
        held += 1
    text.keep(held)
    for start in range(held, len(prompt), batch):
        if not wanted():
            raise GivenUp
        text.feed(prompt[start : start + batch], rows=False)
    return held


def answer(
    text: Text, draft: Draft, choose: Choose, *, max_new: int, ends: Callable[[int], bool], wanted: Wanted
) -> Iterator[list[int]]:
    """The answer's tokens, as many at a time as were found right; the token that ends it is its last one.

    `text` holds the prompt.

    Raises:
        GivenUp: it isn't wanted any more.
    """
    found = [choose(-1)]
    draft.took(found[0])
    left = max_new
    while True:
        yield found
        left -= len(found)
        if not left or ends(found[-1]):
            return
        if not wanted():
            raise GivenUp
        found = _checked(text, draft, choose, token=found[-1], most=left - 1, ends=ends)


def _checked(
    text: Text, draft: Draft, choose: Choose, *, token: int, most: int, ends: Callable[[int], bool]
) -> list[int]:
    """What follows a token: what was tried, as far as it is right, and one token more."""
    tried = draft.propose(most)
    start = len(text.tokens)
    text.feed([token, *tried], rows=True)
    found: list[int] = []
    right = 0
    for place in range(len(tried) + 1):
        found.append(choose(place))
        draft.took(found[-1])
        if place == len(tried) or found[-1] != tried[place]:
            break
        right += 1
        if ends(found[-1]):
            break
    text.keep(start + 1 + right)
    draft.tried(len(tried), right=right)
    return found
