"""Log probabilities stay with their text."""

from hypothesis import given
from hypothesis import strategies as st

from narthex.core.stream import TokenLogprob
from narthex.engine.local.form.trail import Trail


def entry(token: str, bytes_: bytes | None = None) -> TokenLogprob:
    return TokenLogprob(token=token, logprob=-1.0, bytes_=bytes_)


def tokens(entries: tuple[TokenLogprob, ...]) -> list[str]:
    return [each.token for each in entries]


def test_text_and_what_is_left_out() -> None:
    trail = Trail()
    trail.add([entry("a"), entry("<m>"), entry("b")])
    assert tokens(trail.told("a")) == ["a"]
    trail.left_out("<m>")
    assert tokens(trail.told("b")) == ["b"]


def test_a_token_goes_with_the_first_text_that_it_has_part_in() -> None:
    trail = Trail()
    trail.add([entry("ab"), entry("c>"), entry(">d"), entry("e")])
    assert tokens(trail.told("a")) == ["ab"]
    assert tokens(trail.told("b")) == []
    assert tokens(trail.told("c")) == ["c>"]
    trail.left_out(">>")
    assert tokens(trail.told("de")) == [">d", "e"]


def test_characters_of_several_tokens() -> None:
    trail = Trail()
    trail.add([entry("?", "\u00e9".encode()[:1]), entry("?", "\u00e9".encode()[1:]), entry("x")])
    assert tokens(trail.told("\u00e9")) == ["?", "?"]
    trail.left_out("x")
    assert tokens(trail.told("y")) == []


@given(st.lists(st.tuples(st.text("ab\u00e9", min_size=1, max_size=4), st.booleans()), max_size=8))
def test_no_entry_is_told_twice_and_none_of_told_text_is_lost(parts) -> None:
    trail = Trail()
    trail.add([entry(text) for text, _ in parts])
    found = []
    for text, is_told in parts:
        for char in text:
            if is_told:
                found += tokens(trail.told(char))
            else:
                trail.left_out(char)
    assert found == [text for text, is_told in parts if is_told]
