import pytest

from narthex.core.errors import ContextLengthExceeded
from narthex.engine.local.driver import _room


@pytest.mark.parametrize(
    ("limit", "at_most", "room"),
    [(None, None, 90), (None, 40, 40), (None, 2048, 90), (7, 40, 7), (60, 40, 60), (90, None, 90)],
)
def test_how_many_tokens_an_answer_may_have(limit, at_most, room):
    assert _room(10, limit, at_most=at_most, window=100, param="messages") == room


@pytest.mark.parametrize(("prompt", "limit"), [(100, None), (100, 1), (10, 91)])
def test_what_passes_the_window_is_refused(prompt, limit):
    with pytest.raises(ContextLengthExceeded, match="maximum context length is 100"):
        _room(prompt, limit, at_most=40, window=100, param="messages")
