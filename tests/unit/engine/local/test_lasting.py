"""What an answer is held to, to be as long as asked for."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from narthex.core.chat import Sampling
from narthex.core.errors import UnsupportedParameter
from narthex.engine.local.generation import Owner
from narthex.engine.local.lasting import Ends

pytestmark = pytest.mark.anyio

ME = Owner(key="k", account="a", seeded=False)


class Server:
    def __init__(self, *ends: int) -> None:
        self._ends = ends
        self.asked: list[int | None] = []

    async def ends(self, *, slot: int | None) -> Sequence[int]:
        self.asked.append(slot)
        return self._ends


class Slots:
    @asynccontextmanager
    async def lease(self, want: Any) -> AsyncIterator[Any]:
        class Lease:
            slot = 3

        yield Lease()


async def grammar(*ends: int, known: int = 10, room: int = 100, **sampling: Any) -> str:
    made = Ends(Server(*ends), Slots())  # type: ignore[arg-type]
    return await made.grammar(Sampling(**sampling), owner=ME, known_tokens=known, room=room)


@pytest.mark.parametrize(
    ("ends", "sampling", "expected"),
    [
        ((0, 2, 4), {"min_tokens": 5}, "<[1,3,5-9]>{5} <[0-9]>*"),
        ((9,), {"min_tokens": 5}, "<[0-8]>{5} <[0-9]>*"),
        ((0,), {"min_tokens": 200}, "<[1-9]>{100} <[0-9]>*"),
        ((2,), {"min_tokens": 1, "stop_token_ids": (3, 7)}, "<[0-1,4-6,8-9]>{1} <[0-9]>*"),
        ((), {"min_tokens": 1, "ignore_eos": True, "stop_token_ids": (3,)}, "<[0-2,4-9]>{1} <[0-9]>*"),
    ],
)
async def test_no_token_that_ends_a_text_is_among_the_first(
    ends: tuple[int, ...], sampling: dict[str, Any], expected: str
) -> None:
    assert (await grammar(*ends, **sampling)).removeprefix("%llguidance {}\nstart: ") == expected


async def test_where_nothing_ends_a_text_it_is_free() -> None:
    assert await grammar(min_tokens=5, ignore_eos=True) == ""


@pytest.mark.parametrize(("ends", "known"), [((), 10), ((2,), 0)])
async def test_a_server_has_to_tell_its_tokens(ends: tuple[int, ...], known: int) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        await grammar(*ends, known=known, min_tokens=1)
    assert caught.value.param == "min_tokens"


async def test_it_is_asked_once_in_each_of_its_lives() -> None:
    server = Server(2)
    ends = Ends(server, Slots())  # type: ignore[arg-type]
    for _ in range(2):
        for _ in range(3):
            await ends.grammar(Sampling(min_tokens=1), owner=ME, known_tokens=10, room=9)
        ends.forget()
    assert server.asked == [3, 3]
