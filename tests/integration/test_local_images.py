"""Images that are made here: a real server, the official client, and a pipeline made for the test."""

import asyncio
import base64
import contextlib
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
import yaml
from openai import AsyncOpenAI
from tests import tiny_pipeline
from tests.server_inside import children, kill, ready, run_dir, until
from tests.server_process import Server, StartServer

from narthex.engine.images.draw import Painter, State
from narthex.engine.models import manifest

Image = pytest.importorskip("PIL.Image", reason="the extra narthex[images] is not installed")

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = [pytest.mark.anyio, pytest.mark.patient]

TINY, SLOW, CUT, PULLED, LARGE = "tiny", "slow", "cut", "pulled", "large"
LONG = {"prompt": "a cat", "size": "1024x1024", "response_format": "b64_json", "extra_body": {"steps": 50}}
"""Minutes of work for the slow model."""


class World:
    """A running server and the official client towards it, with a key of the profile `oxy`: it has all fields."""

    def __init__(self, server: Server, client: AsyncOpenAI) -> None:
        self.server = server
        self.client = client

    async def image(self, model: str = TINY, **fields: Any) -> bytes:
        made = await self.client.images.generate(model=model, prompt="a cat", response_format="b64_json", **fields)
        return base64.b64decode((made.data or [])[0].b64_json or "")

    async def state(self, model: str) -> State:
        painter = Painter(run_dir(self.server) / f"images-{model}.ctl.sock", model)
        try:
            return await painter.state(timeout_s=60)
        finally:
            await painter.aclose()


def installed(folder: Path) -> None:
    """Make it what `narthex models pull` leaves behind."""
    names = [str(path.relative_to(folder)) for path in sorted(folder.rglob("*"), reverse=True) if path.is_file()]
    files = tuple(manifest.stamp(folder, name, sha256=manifest.sha256_of(folder / name)) for name in names)
    found = manifest.Manifest(name=folder.name, kind="image", source=f"hf:o/{PULLED}@main", licence=None, files=files)
    manifest.save(folder, found)


@contextlib.asynccontextmanager
async def _running(start_server: StartServer, folder: Path) -> AsyncIterator[World]:
    tiny, slow, cut = (tiny_pipeline.write(folder / name, slow=64 * (name == SLOW)) for name in (TINY, SLOW, CUT))
    graph = cut / "unet/model.onnx"
    graph.write_bytes(graph.read_bytes()[:-100])
    config = {
        "embedder": {"default": None},
        "engine": {
            "default": None,
            "memory_bytes": 10**11,
            "images": {
                TINY: {"source": str(tiny), "steps": 6},
                SLOW: {"source": str(slow), "memory_bytes": 10**10, "threads": 1},
                CUT: {"source": str(cut)},
                LARGE: {"source": str(tiny), "memory_bytes": 99 * 10**9},
                "given": {"source": f"hf:o/{PULLED}"},
                PULLED: {"steps": 3},
            },
        },
        "models": [{"name": "painter", "deployments": [f"local/{TINY}"]}],
    }
    installed(tiny_pipeline.write(folder / PULLED))
    started = start_server(config, models=(PULLED,), models_from=folder)
    server = await asyncio.to_thread(started.__enter__)
    try:
        key = await asyncio.to_thread(server.key, profile="oxy")
        async with AsyncOpenAI(base_url=server.base_url, api_key=key, max_retries=0) as client:
            yield World(server, client)
    finally:
        await asyncio.to_thread(started.__exit__, None, None, None)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def world(
    start_server: StartServer, tmp_path_factory: pytest.TempPathFactory, anyio_backend: str
) -> AsyncIterator[World]:
    async with _running(start_server, tmp_path_factory.mktemp("pipelines")) as made:
        yield made


def shape(data: bytes) -> tuple[str, tuple[int, int]]:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image.format, image.size


async def test_images_as_data(world: World) -> None:
    made = await world.client.images.generate(
        model=TINY, prompt="a cat on the roof", n=2, size="128x64", response_format="b64_json", quality="low"
    )
    one, other = (base64.b64decode(image.b64_json or "") for image in made.data or ())
    assert shape(one) == shape(other) == ("PNG", (128, 64))
    assert one != other
    assert (made.size, made.quality, made.background, made.output_format) == ("128x64", "low", "opaque", "png")
    assert made.usage is not None
    assert (made.usage.input_tokens, made.usage.total_tokens) == (5, 5)


async def test_images_as_addresses(world: World) -> None:
    made = await world.client.images.generate(model="painter", prompt="a cat", size="auto")
    (image,) = made.data or ()
    async with httpx2.AsyncClient() as anybody:
        answer = await anybody.get(image.url or "")
    assert answer.headers["content-type"] == "image/png"
    assert answer.content.startswith(b"\x89PNG\r\n\x1a\n")
    assert shape(answer.content) == ("PNG", (64, 64))


async def test_equal_seeds_make_equal_images(world: World) -> None:
    seeded = {"extra_body": {"seed": 7, "sampler": "DPM++ SDE Karras"}}
    first = await world.image(size="128x64", **seeded)
    assert first == await world.image(size="128x64", **seeded)
    assert first != await world.image(size="128x64", extra_body={"seed": 8, "sampler": "DPM++ SDE Karras"})
    made = await world.client.images.generate(
        model=TINY, prompt="a cat", n=2, size="128x64", response_format="b64_json", **seeded
    )
    assert base64.b64decode((made.data or [])[0].b64_json or "") == first


@pytest.mark.parametrize(
    "changed",
    [{"negative_prompt": "the dog"}, {"steps": 9}, {"sampler": "Euler a"}, {"quality": "hd"}],
    ids=lambda changed: next(iter(changed)),
)
async def test_each_field_has_its_effect(changed: dict[str, Any], world: World) -> None:
    assert await world.image(extra_body={"seed": 1}) != await world.image(extra_body={"seed": 1, **changed})


async def test_formats(world: World) -> None:
    sizes = []
    for compression in (100, 10):
        data = await world.image(output_format="webp", output_compression=compression, extra_body={"seed": 1})
        assert shape(data) == ("WEBP", (64, 64))
        sizes.append(len(data))
    assert sizes[0] > sizes[1]
    assert shape(await world.image(output_format="jpeg", output_compression=0)) == ("JPEG", (64, 64))


async def test_images_as_they_are_drawn(world: World) -> None:
    async with await world.client.images.generate(
        model=TINY, prompt="a cat", stream=True, partial_images=2, size="64x64"
    ) as stream:
        told = [each async for each in stream]
    assert [each.type.rpartition(".")[2] for each in told] == [*["partial_image"] * 2, "completed"]
    assert [each.partial_image_index for each in told[:2]] == [0, 1]
    assert {shape(base64.b64decode(each.b64_json)) for each in told} == {("PNG", (64, 64))}
    assert len({each.b64_json for each in told}) == 3
    assert told[-1].size == "64x64"
    assert told[-1].usage.input_tokens == 2


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"size": "100x64"}, "size", "multiples of 64"),
        ({"size": "8192x64"}, "size", "longer than 4096"),
        ({"size": "4096x4096"}, "size", "MiB"),
        ({"background": "transparent"}, "background", "transparent"),
        ({"style": "vivid"}, "style", "not supported"),
        ({"extra_body": {"negative_prompt": "cat " * 301}}, "negative_prompt", "at most 300 tokens"),
    ],
)
async def test_what_can_t_be_made_is_refused_by_name(
    fields: dict[str, Any], param: str, said: str, world: World
) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        await world.client.images.generate(model=SLOW, prompt="a cat", **fields)
    assert raised.value.param == param
    assert said in raised.value.message


async def test_what_has_no_effect_is_named(world: World) -> None:
    answer = await world.client.images.with_raw_response.generate(
        model=TINY, prompt="a cat", user="me", moderation="low", background="auto"
    )
    assert set(answer.headers["x-narthex-ignored"].replace(" ", "").split(",")) == {"moderation", "user"}


async def test_the_model_is_listed(world: World) -> None:
    assert {"painter", "given", TINY, SLOW, CUT} <= {model.id async for model in world.client.models.list()}
    with pytest.raises(openai.BadRequestError, match="not a model for chat"):
        await world.client.chat.completions.create(model=TINY, messages=[{"role": "user", "content": "Hello"}])


async def test_a_caller_who_leaves_stops_the_work(world: World) -> None:
    await world.image(SLOW, size="64x64", extra_body={"steps": 1})
    for fields in ({"n": 4}, {"stream": True, "partial_images": 3}):
        before = (await world.state(SLOW)).steps
        asked = asyncio.ensure_future(world.client.images.generate(model=SLOW, **LONG, **fields))

        async def drawing(before: int = before) -> bool:
            return (await world.state(SLOW)).steps > before

        await until(drawing, within_s=60)
        if asked.done():
            await (await asked).close()
        else:
            asked.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asked
        left = (await world.state(SLOW)).steps

        async def idle() -> bool:
            state = await world.state(SLOW)
            return not state.running and not state.waiting

        await until(idle)
        assert (await world.state(SLOW)).steps <= left + 1


async def test_another_key_waits_for_one_image_only(world: World) -> None:
    key = await asyncio.to_thread(world.server.key, name="other", profile="oxy")
    many = {"size": "256x256", "n": 4, "extra_body": {"steps": 10}}
    async with AsyncOpenAI(base_url=world.server.base_url, api_key=key) as other:
        await other.images.generate(model=SLOW, prompt="a cat", size="64x64", extra_body={"steps": 1})
        first = asyncio.ensure_future(world.image(SLOW, **many))

        async def busy() -> bool:
            return (await world.state(SLOW)).running == 1

        await until(busy)
        await other.images.generate(model=SLOW, prompt="a dog", size="64x64", extra_body={"steps": 1})
        assert not first.done()
    first.cancel()


async def test_a_killed_process_costs_its_requests_and_no_others(world: World) -> None:
    await world.image(SLOW, size="64x64", extra_body={"steps": 1})
    before = (await world.state(SLOW)).steps
    asked = asyncio.ensure_future(world.client.images.generate(model=SLOW, **LONG))

    async def drawing() -> bool:
        return (await world.state(SLOW)).steps > before

    await until(drawing, within_s=60)
    killed = await kill(world.server, f"images/{SLOW}")
    with pytest.raises(openai.InternalServerError) as raised:
        await asked
    assert (raised.value.status_code, raised.value.code) == (502, "upstream_error")
    await ready(world.server, f"images/{SLOW}", other_than=killed)
    assert shape(await world.image(SLOW, size="64x64", extra_body={"steps": 1})) == ("PNG", (64, 64))


async def test_a_damaged_model_is_named_and_not_tried_again_and_again(world: World) -> None:
    for _ in range(2):
        with pytest.raises(openai.InternalServerError) as raised:
            await world.image(CUT)
        assert (raised.value.status_code, raised.value.code) == (503, "model_load_failed")
        assert "cut/unet/model.onnx can't be loaded" in raised.value.message
    status = (await children(world.server))[f"images/{CUT}"]
    assert (status.state, status.restarts) == ("failed", 0)


async def test_one_that_needs_the_memory_of_another_has_the_idle_one_leave(world: World) -> None:
    for model, other in ((TINY, LARGE), (LARGE, TINY)):
        await world.image(model)
        states = await children(world.server)
        assert states[f"images/{model}"].state == "ready"
        assert states[f"images/{other}"].state == "stopped"


async def test_its_capabilities_are_told(world: World) -> None:
    with world.server.http() as http:
        (told,) = http.get("/v1/capabilities", params={"model": TINY}).json()["data"]
    (deployment,) = told["deployments"]
    fates = deployment["surfaces"]["images"]
    assert set(deployment["surfaces"]) == {"images"}
    assert {name for name, fate in fates.items() if fate["state"] == "refused"} == {"style"}
    assert {name for name, fate in fates.items() if fate["state"] == "no effect"} == {"moderation", "user"}
    assert fates["background"] == {"state": "native", "limits": "opaque only"}


async def test_a_reload_changes_how_images_are_made(world: World) -> None:
    before = await world.image(extra_body={"seed": 1})
    file = world.server.data.parent / "narthex-test.yaml"
    settings = yaml.safe_load(file.read_text())
    settings["engine"]["images"][TINY]["steps"] = 9
    settings["engine"]["images"]["more"] = settings["engine"]["images"][TINY]
    file.write_text(yaml.safe_dump(settings))
    with world.server.http() as http:
        answer = await asyncio.to_thread(http.post, "/admin/reload")
    assert answer.status_code == 200, answer.text
    assert "engine.images.tiny" in answer.text

    async def changed() -> bool:
        return await world.image(extra_body={"seed": 1}) != before

    await until(changed, every_s=0.2)
    assert await world.image("more", extra_body={"seed": 1}) == await world.image(extra_body={"seed": 1})


async def test_a_model_that_was_pulled_may_be_deleted(world: World) -> None:
    assert await world.image(PULLED, extra_body={"seed": 1}) == await world.image(
        "given", extra_body={"seed": 1, "steps": 3}
    )
    async with AsyncOpenAI(base_url=world.server.base_url, api_key=world.server.admin_key) as admin:
        assert (await admin.models.delete(PULLED)).deleted
        with pytest.raises(openai.NotFoundError):
            await admin.images.generate(model=PULLED, prompt="a cat")
