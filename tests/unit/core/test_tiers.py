"""Service tiers, and whose turn comes first."""

import pytest

from narthex.core.tiers import USED, rank


@pytest.mark.parametrize(
    ("asked", "used", "turn"),
    [
        ("auto", "default", 1),
        ("default", "default", 1),
        ("flex", "flex", 2),
        ("priority", "priority", 0),
        ("fast", "priority", 0),
        ("scale", "scale", 0),
    ],
)
def test_each_tier_that_can_be_named(asked: str, used: str, turn: int) -> None:
    assert (USED[asked], rank(asked)) == (used, turn)


def test_who_names_none_is_served_as_by_default() -> None:
    assert rank(None) == rank("default")
