"""The loop that generates with a prediction, over a model whose next token is a function of the text so far."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from narthex.engine.prediction.answer import GivenUp, answer, read
from narthex.engine.prediction.draft import Draft

END = 9


def following(tokens: Sequence[int]) -> int:
    """What this model says next."""
    return (7 * tokens[-1] + 3 * len(tokens) + sum(tokens[-3:])) % 10


class Text:
    """What the real one does, without a model."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.fed: list[int] = []
        self._rows: list[int] = []

    def feed(self, tokens: Sequence[int], *, rows: bool) -> None:
        start = len(self.tokens)
        self.tokens += tokens
        self.fed.append(len(tokens))
        places = range(start, len(self.tokens)) if rows else [len(self.tokens) - 1]
        self._rows = [following(self.tokens[: place + 1]) for place in places]

    def keep(self, count: int) -> None:
        assert count <= len(self.tokens)
        del self.tokens[count:]

    def choose(self, place: int) -> int:
        return self._rows[place]


def always() -> bool:
    return True


def ends(token: int) -> bool:
    return token == END


def generated(prompt: list[int], predicted: Sequence[int], *, max_new: int) -> tuple[list[int], Draft, Text]:
    text, draft = Text(), Draft(predicted)
    read(text, prompt, batch=4, wanted=always)
    found: list[int] = []
    for tokens in answer(text, draft, text.choose, max_new=max_new, ends=ends, wanted=always):
        found += tokens
        assert text.tokens == (prompt + found)[: len(text.tokens)]
    return found, draft, text


PROMPT = [1, 2, 3]


@given(prompt=st.lists(st.integers(0, 8), min_size=1, max_size=9), max_new=st.integers(1, 60), data=st.data())
def test_the_text_is_the_same_with_any_prediction(prompt: list[int], max_new: int, data: st.DataObject) -> None:
    plain, _, _ = generated(prompt, (), max_new=max_new)
    assert len(plain) == max_new or plain[-1] == END
    near = list(plain)
    for at in data.draw(st.lists(st.integers(0, max(0, len(plain) - 1)), max_size=3)):
        near[at] = data.draw(st.integers(0, 9))
    for predicted in (plain, near, [*plain, 4, 4], data.draw(st.lists(st.integers(0, 9), max_size=70))):
        found, draft, _ = generated(prompt, predicted, max_new=max_new)
        assert found == plain
        assert draft.accepted <= len(plain)


def test_what_is_predicted_takes_fewer_batches() -> None:
    prompt = next([at, 5] for at in range(9) if len(generated([at, 5], (), max_new=40)[0]) >= 12)
    plain, _, alone = generated(prompt, (), max_new=40)
    _, draft, text = generated(prompt, plain, max_new=40)
    assert len(text.fed) < len(alone.fed) / 2
    assert (draft.accepted, draft.rejected) == (len(plain), 0)


def test_only_what_is_new_of_a_prompt_is_read() -> None:
    text = Text()
    assert read(text, [1, 2, 3, 4, 5, 6], batch=4, wanted=always) == 0
    assert text.fed == [4, 2]
    assert read(text, [1, 2, 3, 7], batch=4, wanted=always) == 3
    assert read(text, [1, 2, 3, 7], batch=4, wanted=always) == 3
    assert text.fed == [4, 2, 1, 1]


def test_nobody_wants_it_any_more() -> None:
    text = Text()
    with pytest.raises(GivenUp):
        read(text, PROMPT, batch=4, wanted=lambda: False)
    read(text, PROMPT, batch=4, wanted=always)
    tokens = answer(text, Draft(()), text.choose, max_new=5, ends=lambda _: False, wanted=lambda: False)
    next(tokens)
    with pytest.raises(GivenUp):
        next(tokens)
