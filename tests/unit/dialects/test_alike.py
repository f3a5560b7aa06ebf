"""Dialects that write nothing as it came offer no shorter way."""

from collections.abc import Callable
from typing import Any

import pytest

from narthex.core.ports import Call, Surface
from narthex.core.stream import Frame, TextDelta
from narthex.dialects.openai_chat import ChatDialect
from narthex.dialects.openai_completions import CompletionsDialect
from narthex.dialects.openai_images import ImagesDialect
from narthex.dialects.thyris_answer import NativeStream

WRITTEN: list[tuple[Surface, Callable[..., Any]]] = [
    ("chat", ChatDialect().encoder),
    ("completions", CompletionsDialect().encoder),
    ("images", ImagesDialect().encoder),
    ("chat", NativeStream),
]


@pytest.mark.parametrize(("surface", "encoder"), WRITTEN)
def test_an_event_of_ours_is_written_anew_each_time(
    make_call: Callable[..., Call], surface: Surface, encoder: Callable[..., Any]
) -> None:
    made = encoder(make_call(surface, {"stream": True}), created=7)
    assert made.alike(Frame.of(TextDelta(0, "Hi"))) is None
