"""What every store of keys promises."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from narthex.core.errors import Conflict, NotFound, PermissionDenied
from narthex.core.keys import Grants, Keys, NewKey
from narthex.storage.sqlite.control import open_control

pytestmark = pytest.mark.anyio

ALL = Grants.everything()


class Clock:
    now_ms = 1_000

    def __call__(self) -> int:
        return self.now_ms


@contextlib.asynccontextmanager
async def sqlite(folder: Path, clock: Clock) -> AsyncIterator[Keys]:
    store = await open_control(folder / "control.db", clock=clock)
    try:
        yield store.keys
    finally:
        await store.aclose()


STORES: dict[str, Callable[[Path, Clock], contextlib.AbstractAsyncContextManager[Keys]]] = {"sqlite": sqlite}


@pytest.fixture(params=STORES)
def opened(request, tmp_path):
    """Opens the store; every call is another worker's view of the same data."""
    return lambda clock=None: STORES[request.param](tmp_path, clock or Clock())


async def test_a_key_is_found_by_its_digest_by_every_worker(opened):
    grants = Grants(surfaces=frozenset({"chat", "v4"}), models=("a*", "b"), collections=("c",), templates=True)
    async with opened() as one, opened() as other:
        key, secret = await one.create(
            NewKey(
                name="ci", grants=grants, profile="ionos", strict=False, expires_ms=7, account="acme", project="web"
            ),
            within=ALL,
        )
        found = await other.by_digest(secret.digest)
    assert found.key == key
    assert (key.name, key.grants, key.profile, key.strict, key.expires_ms) == ("ci", grants, "ionos", False, 7)
    assert (key.prefix, key.created_ms, key.revoked_ms) == (secret.prefix, 1_000, None)
    assert (found.account.name, found.project.name) == ("acme", "web")
    assert (found.account.id, found.project.id) == (key.account_id, key.project_id)
    assert found.project.account_id == found.account.id


async def test_an_unknown_digest_is_none(opened):
    async with opened() as keys:
        assert await keys.by_digest(b"\0" * 32) is None
        assert await keys.by_digest(b"") is None


async def test_keys_outlive_the_process(opened):
    async with opened() as keys:
        key, secret = await keys.create(NewKey(name="n"), within=ALL)
    async with opened() as keys:
        assert (await keys.by_digest(secret.digest)).key == key
        assert await keys.list() == (key,)


async def test_accounts_and_projects_are_made_once(opened):
    async with opened() as keys:
        a, _ = await keys.create(NewKey(name="a"), within=ALL)
        b, _ = await keys.create(NewKey(name="b"), within=ALL)
        c, _ = await keys.create(NewKey(name="c", account="other"), within=ALL)
    assert (a.account_id, a.project_id) == (b.account_id, b.project_id)
    assert a.account_id != c.account_id
    assert a.project_id != c.project_id


async def test_a_key_grants_no_more_than_its_creator_has(opened):
    async with opened() as keys:
        with pytest.raises(PermissionDenied):
            await keys.create(NewKey(name="n", grants=ALL), within=Grants(models=("*",)))
        assert await keys.list() == ()


@pytest.mark.parametrize("field", ["id", "prefix", "name"])
async def test_a_key_is_revoked_by_id_prefix_or_name(opened, field):
    clock = Clock()
    async with opened(clock) as keys, opened() as other:
        key, secret = await keys.create(NewKey(name="n"), within=ALL)
        await keys.create(NewKey(name="m"), within=ALL)
        clock.now_ms = 2_000
        revoked = await keys.revoke(getattr(key, field))
        assert revoked.id == key.id
        assert revoked.revoked_ms == 2_000
        assert (await other.by_digest(secret.digest)).key == revoked
        clock.now_ms = 3_000
        assert await keys.revoke(key.id) == revoked
        assert await keys.revoke("n") == revoked


async def test_a_name_that_several_live_keys_bear_is_a_conflict(opened):
    async with opened() as keys:
        first, _ = await keys.create(NewKey(name="n"), within=ALL)
        second, _ = await keys.create(NewKey(name="n"), within=ALL)
        with pytest.raises(Conflict, match=second.id):
            await keys.revoke("n")
        await keys.revoke(first.id)
        assert (await keys.revoke("n")).id == second.id


async def test_what_does_not_exist_can_not_be_revoked(opened):
    async with opened() as keys:
        with pytest.raises(NotFound):
            await keys.revoke("' or 1=1 --")


async def test_the_first_start_makes_one_admin_key_however_many_start(opened):
    async with opened() as one, opened() as two:
        made = await asyncio.gather(*(keys.ensure_admin() for keys in (one, two) * 4))
        [(key, secret)] = [pair for pair in made if pair is not None]
        assert key.name == "admin"
        assert (await two.by_digest(secret.digest)).is_admin
        await one.revoke("admin")
        again, _ = await one.ensure_admin()
        assert again.id != key.id


async def test_another_admin_key_is_good_enough(opened):
    async with opened() as keys:
        await keys.create(NewKey(name="ops", grants=Grants(admin=True)), within=ALL)
        assert await keys.ensure_admin() is None


async def test_reset_admin_leaves_one_live_admin_key_and_all_others_alone(opened):
    async with opened() as keys:
        await keys.ensure_admin()
        await keys.create(NewKey(name="admin"), within=ALL)
        other, _ = await keys.create(NewKey(name="other"), within=ALL)
        new, secret = await keys.reset_admin()
        live = [key.id for key in await keys.list() if key.revoked_ms is None]
        assert live == [other.id, new.id]
        assert (await keys.by_digest(secret.digest)).is_admin


async def test_ping_returns_while_the_store_answers(opened):
    async with opened() as keys:
        await keys.ping()


async def test_a_key_is_found_by_its_id_also_when_it_is_revoked(opened):
    async with opened() as one, opened() as other:
        key, _ = await one.create(NewKey(name="ci", account="acme"), within=ALL)
        found = await other.by_id(key.id)
        assert (found.key, found.account.name) == (key, "acme")
        await one.revoke(key.id)
        assert (await one.by_id(key.id)).key.revoked_ms == 1_000
        assert await one.by_id("nobody") is None
