"""Vectors cut to fewer dimensions."""

import math
import struct

import pytest

from narthex.core.embeddings import shorten
from narthex.core.errors import InvalidRequest

ROW = struct.pack("<4f", 0.5, 0.5, 0.5, 0.5)


def numbers(vector: bytes) -> list[float]:
    return list(struct.unpack(f"<{len(vector) // 4}f", vector))


@pytest.mark.parametrize("dimensions", [None, 4])
def test_whole(dimensions: int | None) -> None:
    assert shorten(ROW, dimensions) == ROW


def test_cut_to_unit_length() -> None:
    assert numbers(shorten(ROW, 1)) == [1]
    assert numbers(shorten(ROW, 2)) == pytest.approx([math.sqrt(0.5)] * 2)


def test_nothing_to_scale() -> None:
    assert numbers(shorten(bytes(8), 1)) == [0]


def test_more_than_there_are() -> None:
    with pytest.raises(InvalidRequest) as caught:
        shorten(ROW, 5)
    assert (caught.value.code, caught.value.param) == ("integer_above_max_value", "dimensions")
