"""What every store of collections must do."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from narthex.core.documents import Collection, EmbeddingModel
from narthex.core.errors import Conflict, NotFound
from narthex.core.keys import EVERYTHING, Grants, NewKey
from narthex.storage.sqlite.control import ControlStore, open_control

pytestmark = pytest.mark.anyio

MODEL = EmbeddingModel(name="m", dim=3, digest="d", max_tokens=512)


class World:
    def __init__(self, control: ControlStore, accounts: list[str]) -> None:
        self.control = control
        self.collections = control.collections
        self.one, self.other = accounts

    def new(self, key: str, account: str = "", **fields: object) -> Collection:
        account = account or self.one
        fields = {"id": f"{account}-{key}", "account_id": account, "key": key, "model": MODEL, "created_ms": 1} | fields
        return Collection(**fields)  # type: ignore[arg-type]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    control = await open_control(tmp_path / "control.db", clock=lambda: 1)
    accounts = []
    for name in ("one", "other"):
        new = NewKey(name=name, account=name, grants=Grants(collections=(EVERYTHING,)))
        key, _ = await control.keys.create(new, within=Grants.everything())
        accounts.append(key.account_id)
    yield World(control, accounts)
    await control.aclose()


async def test_what_is_kept_comes_back_whole(world: World) -> None:
    new = world.new("a", description="d", retrieval="keyword", weight=0.25, generation=3)
    assert await world.collections.create(new) == new
    assert await world.collections.get(world.one, "a") == new
    assert await world.collections.by_id(new.id) == new
    assert await world.collections.by_id("nobody's") is None


async def test_a_key_is_taken_once_in_an_account(world: World) -> None:
    await world.collections.create(world.new("a"))
    with pytest.raises(Conflict, match="'a'"):
        await world.collections.create(world.new("a", id="another"))
    await world.collections.create(world.new("A"))
    await world.collections.create(world.new("a", world.other))


async def test_of_many_who_make_the_same_at_once_one_gets_it(world: World) -> None:
    made = await asyncio.gather(
        *(world.collections.create(world.new("a", id=str(number))) for number in range(20)), return_exceptions=True
    )
    won = [each for each in made if isinstance(each, Collection)]
    assert len(won) == 1
    assert await world.collections.list(world.one) == tuple(won)
    assert all(isinstance(each, Collection | Conflict) for each in made)


async def test_an_account_sees_its_own_by_key(world: World) -> None:
    for key in ("b", "a", "ä", "中"):
        await world.collections.create(world.new(key))
    await world.collections.create(world.new("x", world.other))
    assert [each.key for each in await world.collections.list(world.one)] == ["a", "b", "ä", "中"]
    assert [each.key for each in await world.collections.list(world.other)] == ["x"]
    assert await world.collections.get(world.one, "x") is None
    every = {collection.id for collection in await world.collections.every()}
    assert every == {f"{world.one}-{key}" for key in "abä中"} | {f"{world.other}-x"}


async def test_what_changes_is_kept(world: World) -> None:
    new = await world.collections.create(world.new("a"))
    changed = msgspec.structs.replace(
        new, description="d", weight=1.0, retrieval="vector", generation=2, model=EmbeddingModel(name="n", dim=4)
    )
    await world.collections.replace(changed)
    assert await world.collections.get(world.one, "a") == changed


async def test_a_change_that_read_before_a_rebuild_is_refused(world: World) -> None:
    new = await world.collections.create(world.new("a"))
    rebuilt = await world.collections.replace(msgspec.structs.replace(new, generation=2))
    with pytest.raises(Conflict, match="rebuilt meanwhile"):
        await world.collections.replace(msgspec.structs.replace(new, description="d"))
    assert await world.collections.get(world.one, "a") == rebuilt


async def test_a_deleted_one_is_gone(world: World) -> None:
    new = await world.collections.create(world.new("a"))
    with pytest.raises(NotFound):
        await world.collections.delete(world.other, "a")
    assert await world.collections.delete(world.one, "a") == new
    assert await world.collections.get(world.one, "a") is None
    for change in (world.collections.replace(new), world.collections.delete(world.one, "a")):
        with pytest.raises(NotFound, match="'a'"):
            await change
    await world.collections.create(world.new("a", id="anew"))
