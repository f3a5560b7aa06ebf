"""Chunks of OpenAI's format as servers tell them, in two manners: alike but for their choices, and unlike."""

import json
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

Tell = Callable[..., bytes]
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
ASKED = {"stream_options": {"include_usage": True}}
STARTS, ENDS = {"role": "assistant", "content": ""}, {"finish_reason": "stop"}

_IDS = count()


def told(delta: dict[str, Any] | None, choice: dict[str, Any], more: dict[str, Any], *, id_: str) -> bytes:
    """A chunk with one choice, or with none."""
    before, after = more.pop("before", {}), more
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": None, **choice}]
    line = {"id": id_, "object": "thing", "created": 1, "model": "theirs", **before, "choices": choices, **after}
    return json.dumps(line).encode()


def alike(delta: dict[str, Any] | None = None, choice: dict[str, Any] | None = None, **more: Any) -> bytes:
    """What stands around the choices is the same in every chunk, so that nearly all can be passed on unread."""
    return told(delta, choice or {}, more, id_="x")


def unlike(delta: dict[str, Any] | None = None, choice: dict[str, Any] | None = None, **more: Any) -> bytes:
    """It is another in every chunk, so that each is read."""
    return told(delta, choice or {}, more, id_=f"x{next(_IDS)}")


WAYS = pytest.mark.parametrize("tell", [alike, unlike])
ASKING = pytest.mark.parametrize("options", [{}, ASKED], ids=["usage not asked for", "usage asked for"])


def spoken(tell: Tell, *words: str) -> list[bytes]:
    """The chunks of an answer."""
    return [tell(STARTS), *(tell({"content": word}) for word in words), tell({}, ENDS)]
