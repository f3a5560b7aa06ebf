"""What snapshots share: made once, closed with the last that held it."""

from collections.abc import Awaitable, Callable

import pytest

from narthex.app.shelf import Shelf

pytestmark = pytest.mark.anyio


class Thing:
    """Something that is closed at most once."""

    def __init__(self) -> None:
        self.closed = 0

    async def aclose(self) -> None:
        self.closed += 1


def make() -> tuple[Thing, Callable[[], Awaitable[None]]]:
    thing = Thing()
    return thing, thing.aclose


async def test_a_part_outlives_whoever_took_it_first() -> None:
    shelf = Shelf()
    former, later = shelf.holdings(), shelf.holdings()
    shared, own = former.take("shared", make), former.take("own", make)
    assert later.take("shared", make) is shared
    assert former.take("own", make) is own
    await former.release()
    await former.release()
    assert (shared.closed, own.closed, len(shelf)) == (0, 1, 1)
    assert later.take("own", make) is not own
    await later.release()
    assert (shared.closed, len(shelf)) == (1, 0)
