"""Log probabilities of generated tokens: from what the engine tells to what callers read.

Rule 1: the probabilities are the model's own, before biases, grammars, penalties and temperature.
Rule 2: every entry has its own bytes, and the entries of a choice together spell its text.
"""

from collections import deque
from collections.abc import Sequence

import msgspec

from narthex.core.stream import TokenLogprob
from narthex.engine.local.llama import Chosen, Piece, Rival

IMPOSSIBLE = -9999.0
"""The log probability of a token that the model rules out (contract 1.3)."""


class Vocabulary(msgspec.Struct, frozen=True):
    """What every token of a model spells, by id; control tokens by their names."""

    pieces: Sequence[bytes]


def spelling(data: bytes) -> str:
    """The text of a token; bytes that are no whole characters are escaped, as OpenAI writes them."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "".join(chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}" for byte in data)


def entry(chosen: Chosen, data: bytes, *, rivals: int, vocabulary: Vocabulary) -> TokenLogprob:
    """A chosen token that stands for `data` in the text, with so many rivals."""
    return TokenLogprob(
        token=spelling(data),
        logprob=_bounded(chosen),
        bytes_=data,
        top=tuple(_rival(rival, vocabulary) for rival in chosen.top_logprobs[:rivals]),
    )


def _rival(rival: Rival, vocabulary: Vocabulary) -> TokenLogprob:
    if rival.bytes_:
        data = bytes(rival.bytes_)
        return TokenLogprob(token=spelling(data), logprob=_bounded(rival), bytes_=data)
    return TokenLogprob(token=spelling(vocabulary.pieces[rival.id]), logprob=_bounded(rival))


def _bounded(rival: Rival) -> float:
    return IMPOSSIBLE if rival.logprob is None else max(rival.logprob, IMPOSSIBLE)


class _Waiting(msgspec.Struct, frozen=True):
    """A token that was generated, and may be told. `several`: others that the engine kept back came before it."""

    chosen: Chosen
    several: bool


class Trace:
    """The tokens of one generated text, until their text is told.

    The engine keeps text back that may become a stop string, and joins the tokens of one character: then it tells only
    the last of them. Control tokens are not in the text and have no entry.
    """

    def __init__(self, vocabulary: Vocabulary, *, rivals: int) -> None:
        self._vocabulary = vocabulary
        self._rivals = rivals
        self._generated = 0
        self._waiting: deque[_Waiting] = deque()

    def told(self, piece: Piece) -> tuple[TokenLogprob, ...]:
        """The entries of a piece's text. A token that a stop string cuts is told with what is left of it."""
        several = piece.tokens_predicted > self._generated + 1
        self._generated = piece.tokens_predicted
        self._waiting.extend(_Waiting(chosen, several) for chosen in piece.completion_probabilities)
        rest, taken = piece.content.encode(), []
        while rest and self._waiting:
            waiting = self._waiting.popleft()
            data = self._data(waiting, rest)
            shown = data.decode(errors="replace").encode()
            if not rest.startswith(shown):
                if not shown.startswith(rest):
                    continue
                data = shown = rest
            taken.append(entry(waiting.chosen, data, rivals=self._rivals, vocabulary=self._vocabulary))
            rest = rest[len(shown) :]
        return tuple(taken)

    def _data(self, waiting: _Waiting, rest: bytes) -> bytes:
        """The bytes that a token stands for, which begin the rest of the text."""
        own = self._vocabulary.pieces[waiting.chosen.id]
        if not waiting.several:
            return own
        end = rest.find(own, 1)
        while end >= 0:
            whole = rest[: end + len(own)]
            if _is_text(whole):
                return whole
            end = rest.find(own, end + 1)
        return rest


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
