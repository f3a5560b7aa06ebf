"""The library over real files: races, faults, and that nobody ever sees what is another account's."""

import asyncio
import hashlib
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.scripted_deployment import principal

from narthex.core.documents import Embedded, EmbeddingModel
from narthex.core.errors import (
    Conflict,
    EngineCrashed,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    StorageError,
    Superseded,
)
from narthex.core.keys import EVERYTHING, Account, Grants, NewKey, Principal
from narthex.retrieval.library import CollectionChange, Library, Question, TextDocument
from narthex.retrieval.opened import OpenCollections
from narthex.storage.sqlite.control import ControlStore, open_control

pytestmark = [pytest.mark.anyio, pytest.mark.patient]

DIM = 4
M = CollectionChange(model="m")


class Hashes:
    """Vectors by the hash of a text. `before` runs first, once; `error` is raised."""

    def __init__(self) -> None:
        self.digest, self.dim = "one", DIM
        self.error: Exception | None = None
        self.before: Callable[[], Awaitable[Any]] | None = None
        self.texts: list[str] = []

    async def identify(self, model: str, *, principal: Principal) -> EmbeddingModel:
        return EmbeddingModel(name=model, dim=self.dim, digest=self.digest, max_tokens=512)

    async def embed(self, model: str, texts: Sequence[str], *, principal: Principal) -> Embedded:
        before, self.before = self.before, None
        if before is not None:
            await before()
        if self.error is not None:
            raise self.error
        self.texts += texts
        return Embedded(vectors=tuple(map(self._vector, texts)), tokens=len(texts))

    def _vector(self, text: str) -> bytes:
        numbers = hashlib.sha256(text.encode()).digest()[: self.dim]
        length = sum(number**2 for number in numbers) ** 0.5
        return struct.pack(f"<{self.dim}f", *(number / length for number in numbers))


class World:
    def __init__(self, control: ControlStore, stores: OpenCollections) -> None:
        self.control, self.stores, self.embedding = control, stores, Hashes()
        self.library = Library(control.collections, stores, self.embedding, clock=lambda: 1)

    async def somebody(self, name: str, **grants: Any) -> Principal:
        """Of an account of their own."""
        key, _ = await self.control.keys.create(NewKey(name=name, account=name), within=Grants.everything())
        who = principal(Grants(**{"models": (EVERYTHING,), "collections": (EVERYTHING,), **grants}))
        return msgspec.structs.replace(who, account=Account(id=key.account_id, name=name))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with opened(tmp_path) as made:
        yield made


class opened:  # noqa: N801 - a block, as in the library
    """A world for a block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def __aenter__(self) -> World:
        self._control = await open_control(self._folder / "control.db", clock=lambda: 1)
        self._stores = OpenCollections(self._folder / "collections", clock=lambda: 1)
        return World(self._control, self._stores)

    async def __aexit__(self, *_: object) -> None:
        await self._stores.aclose()
        await self._control.aclose()


async def put(world: World, who: Principal, key: str, text: str, *, document: str = "d", replace: bool = True) -> Any:
    return await world.library.put(who, key, document, TextDocument(content=text), replace=replace)


# --- whose it is -----------------------------------------------------------------------------------------------------

KEYS = st.sampled_from(["k", "l"])
STEPS = st.lists(
    st.tuples(st.sampled_from(["make", "put", "search", "list", "remove", "drop"]), st.integers(0, 1), KEYS),
    max_size=15,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_nobody_ever_sees_what_is_another_account_s(tmp_path_factory: pytest.TempPathFactory, steps: Any) -> None:
    """C17: whatever two accounts do with collections of the same keys, each finds only its own words."""

    async def run() -> None:
        async with opened(tmp_path_factory.mktemp("w")) as world:
            people = [await world.somebody("zero"), await world.somebody("one")]
            for operation, at, key in steps:
                try:
                    await _step(world, operation, people[at], f"secret{at}", key)
                except (NotFound, Conflict):
                    continue

    asyncio.run(run())


async def _step(world: World, operation: str, who: Principal, secret: str, key: str) -> None:
    library = world.library
    if operation == "make":
        await library.create(who, key, M)
    elif operation == "put":
        await put(world, who, key, f"{secret} in {key}")
    elif operation == "remove":
        await library.remove(who, key, "d")
    elif operation == "drop":
        await library.delete(who, key)
    elif operation == "list":
        assert all(each.account_id == who.account.id for each in await library.collections(who))
        for document in await library.documents(who, key):
            assert await library.text(who, key, document.key) == f"{secret} in {key}"
    else:
        found = await library.retrieve(who, key, Question(text="secret0 secret1", n=50))
        assert all(hit.chunk.text == f"{secret} in {key}" for hit in found.found.hits)


async def test_what_is_not_granted_is_not_there(world: World) -> None:
    who = await world.somebody("a")
    await world.library.create(who, "k", M)
    less = msgspec.structs.replace(who, key=principal(Grants(collections=("other",))).key)
    with pytest.raises(NotFound):
        await world.library.collection(less, "k")
    assert await world.library.collections(less) == ()
    for change in (world.library.create(less, "k", M), world.library.change(less, "k", M)):
        with pytest.raises(PermissionDenied):
            await change


# --- races -----------------------------------------------------------------------------------------------------------


async def test_a_put_to_a_collection_that_goes_meanwhile_is_unknown(world: World) -> None:
    who = await world.somebody("a")
    await world.library.create(who, "k", M)
    world.embedding.before = lambda: world.library.delete(who, "k")
    with pytest.raises(NotFound):
        await put(world, who, "k", "text")


async def test_a_put_beside_a_rebuild_goes_to_the_new_one(world: World) -> None:
    who = await world.somebody("a")
    made = await world.library.create(who, "k", M)

    async def rebuilt() -> None:
        await world.control.collections.replace(msgspec.structs.replace(made, generation=2))

    world.embedding.before = rebuilt
    stored = await put(world, who, "k", "text")
    assert stored.collection.generation == 2
    assert [each.key for each in await world.library.documents(who, "k")] == ["d"]


async def test_a_collection_that_is_rebuilt_again_and_again_is_given_up(world: World) -> None:
    who = await world.somebody("a")
    await world.library.create(who, "k", M)

    async def rebuilt() -> None:
        now = await world.library.collection(who, "k")
        await world.control.collections.replace(msgspec.structs.replace(now, generation=now.generation + 1))
        world.embedding.before = rebuilt

    world.embedding.before = rebuilt
    with pytest.raises(Superseded):
        await put(world, who, "k", "text")


async def test_a_post_that_loses_the_race_leaves_the_winner(world: World) -> None:
    who = await world.somebody("a")
    await world.library.create(who, "k", M)
    world.embedding.before = lambda: put(world, who, "k", "first")
    with pytest.raises(Conflict, match="'d'"):
        await put(world, who, "k", "second", replace=False)
    assert await world.library.text(who, "k", "d") == "first"


async def test_a_put_of_a_collection_that_somebody_makes_meanwhile_changes_it(world: World) -> None:
    who = await world.somebody("a")
    first = True
    identify = world.embedding.identify

    async def slowly(model: str, *, principal: Principal) -> EmbeddingModel:
        nonlocal first
        if first:
            first = False
            await world.library.create(who, "k", M)
        return await identify(model, principal=principal)

    world.embedding.identify = slowly  # type: ignore[method-assign]
    changed, new = await world.library.change(who, "k", CollectionChange(model="m", description="d"))
    assert (changed.description, new) == ("d", False)


async def test_a_put_that_never_gets_its_turn_says_so(world: World) -> None:
    who = await world.somebody("a")

    async def taken(*_: Any, **__: Any) -> Any:
        raise Conflict

    world.library.create = taken  # type: ignore[method-assign]
    with pytest.raises(Conflict, match="just now"):
        await world.library.change(who, "k", M)


# --- faults ----------------------------------------------------------------------------------------------------------


async def test_a_failure_keeps_what_there_was(world: World) -> None:
    who = await world.somebody("a")
    await world.library.create(who, "k", M)
    await put(world, who, "k", "first")
    world.embedding.error = EngineCrashed()
    with pytest.raises(EngineCrashed):
        await put(world, who, "k", "second")
    assert await world.library.text(who, "k", "d") == "first"


async def test_another_model_of_the_name_is_refused(world: World) -> None:
    who = await world.somebody("a")
    await world.library.create(who, "k", M)
    await put(world, who, "k", "text")
    world.embedding.digest = "two"
    for asked in (put(world, who, "k", "other"), world.library.retrieve(who, "k", Question(text="text"))):
        with pytest.raises(Conflict, match="rebuild the collection"):
            await asked
    by_words = await world.library.retrieve(who, "k", Question(text="text", retrieval="keyword"))
    assert len(by_words.found.hits) == 1


async def test_vectors_of_another_length_are_refused(world: World) -> None:
    who = await world.somebody("a")
    world.embedding.digest = ""
    await world.library.create(who, "k", M)
    world.embedding.dim = DIM + 1
    with pytest.raises(Conflict, match="must not mix"):
        await put(world, who, "k", "text")


async def test_files_that_can_t_be_deleted_are_left_for_a_sweep(world: World) -> None:
    who = await world.somebody("a")
    await world.library.create(who, "k", M)

    async def failing(_: str) -> None:
        raise StorageError("The disk could not be read or written.")

    world.stores.remove = failing  # type: ignore[method-assign]
    await world.library.delete(who, "k")
    assert await world.library.collections(who) == ()


async def test_what_is_unchanged_is_embedded_once(world: World) -> None:
    who = await world.somebody("a")
    await world.library.create(who, "k", M)
    await put(world, who, "k", "text")
    again = await put(world, who, "k", "text")
    assert (again.unchanged, again.tokens, world.embedding.texts) == (True, 0, ["text"])


async def test_unknown_documents_and_impossible_keys(world: World) -> None:
    who = await world.somebody("a")
    await world.library.create(who, "k", M)
    for asked in (
        world.library.document(who, "k", "d"),
        world.library.text(who, "k", "d"),
        world.library.remove(who, "k", "d"),
        world.library.collection(who, "a/b"),
    ):
        with pytest.raises(NotFound):
            await asked
    for refused in (put(world, who, "k", "x", document="a/b"), world.library.create(who, "", M)):
        with pytest.raises(InvalidRequest):
            await refused
