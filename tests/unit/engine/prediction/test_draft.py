"""Which tokens of a prediction are tried: what it says next, more the longer it is right, and little in vain."""

from hypothesis import given
from hypothesis import strategies as st

from narthex.engine.prediction.draft import MOST, Draft

TOKENS = st.lists(st.integers(0, 5), max_size=80)


def taken(draft: Draft, tokens: list[int]) -> None:
    for token in tokens:
        draft.took(token)


def test_the_beginning_is_tried_first_and_then_more_of_it() -> None:
    predicted, tried = list(range(100)), []
    draft = Draft(predicted)
    draft.took(0)
    at = 1
    while at < 60:
        proposal = draft.propose(MOST)
        assert proposal == predicted[at : at + len(proposal)]
        tried.append(len(proposal))
        taken(draft, predicted[at : at + len(proposal) + 1])
        draft.tried(len(proposal), right=len(proposal))
        at += len(proposal) + 1
    assert tried[:4] == [2, 4, 6, 10]
    assert max(tried) == MOST
    assert (draft.accepted, draft.rejected) == (at, 0)


def test_no_more_than_asked_for() -> None:
    draft = Draft(range(10))
    assert draft.propose(1) == [0]
    assert draft.propose(0) == []


def test_nothing_is_tried_where_the_answer_has_left_the_prediction() -> None:
    draft = Draft(range(10))
    draft.took(77)
    assert draft.propose(MOST) == []


def test_it_is_found_again_by_three_tokens() -> None:
    draft = Draft([1, 2, 3, 4, 5, 6, 7, 8, 9])
    taken(draft, [1, 99, 4, 5])
    assert draft.propose(MOST) == []
    draft.took(6)
    assert draft.propose(MOST) == [7, 8]


def test_the_next_place_is_meant_where_several_look_alike() -> None:
    draft = Draft([1, 2, 3, 50, 1, 2, 3, 60, 1, 2, 3, 70])
    taken(draft, [1, 2, 3, 50, 9, 1, 2, 3])
    assert draft.propose(1) == [60]
    taken(draft, [60, 1, 2, 3, 70, 8, 1, 2, 3])
    assert draft.propose(1) == [50]


def test_a_place_near_the_end_has_nothing_behind_it() -> None:
    draft = Draft([1, 2, 3, 4])
    taken(draft, [9, 2, 3, 4])
    assert draft.propose(MOST) == []
    taken(draft, [1])
    assert draft.propose(MOST) == []


def test_no_prediction() -> None:
    draft = Draft([])
    assert draft.propose(MOST) == []
    assert not draft.took(1)


@given(predicted=TOKENS, answer=TOKENS)
def test_little_is_tried_in_vain(predicted: list[int], answer: list[int]) -> None:
    draft, at = Draft(predicted), 0
    while at < len(answer):
        proposal = draft.propose(MOST)
        right = 0
        while right < len(proposal) and at + right < len(answer) and answer[at + right] == proposal[right]:
            right += 1
        taken(draft, answer[at : at + right + 1])
        draft.tried(len(proposal), right=right)
        at += right + 1
        assert draft.rejected <= 2 + len(answer) / 20 + draft.accepted / 2
    assert draft.accepted <= len(answer)
