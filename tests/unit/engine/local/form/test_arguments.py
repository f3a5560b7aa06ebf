"""Where a JSON value ends."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from narthex.engine.local.form.arguments import ValueEnd

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def cut(text: str, size: int) -> tuple[str, str]:
    """The value and what comes after it, read in pieces."""
    end, value = ValueEnd(), ""
    for at in range(0, len(text), size):
        piece = text[at : at + size]
        length = end.feed(piece)
        value += piece[:length]
        if end.done:
            return value, text[len(value) :]
    return value, ""


@given(VALUES, st.sampled_from(["}", ", 1", "]", " x", "\n"]), st.integers(1, 5), st.booleans())
def test_the_end_is_found_wherever_the_text_is_cut(value, rest, size, ascii_) -> None:
    text = json.dumps(value, ensure_ascii=ascii_)
    assert cut(text + rest, size) == (text, rest)


@pytest.mark.parametrize("text", ['{"a": "}', '{"a": "\\"}', "[[1]", '"\\"', "12", "  "])
def test_what_has_not_ended(text: str) -> None:
    end = ValueEnd()
    assert end.feed(text) == len(text)
    assert not end.done
