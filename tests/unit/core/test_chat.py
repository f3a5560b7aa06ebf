"""Messages as text."""

import pytest

from narthex.core.chat import ImagePart, Message, TextPart


@pytest.mark.parametrize(
    ("content", "text"),
    [("abc", "abc"), (None, ""), ((TextPart("a"), ImagePart("data:,"), TextPart("b")), "ab"), ((), "")],
)
def test_the_text_of_a_message_is_that_of_its_parts(content: object, text: str) -> None:
    assert Message(role="user", content=content).text == text  # type: ignore[arg-type]
