"""Images through the official client: a real server, and a scripted one behind it that makes them."""

import asyncio
import base64
import contextlib
import stat
from collections.abc import AsyncIterator

import httpx2
import openai
import pytest
from openai import AsyncOpenAI
from tests.images import JPEG, PNG, TRAITS, USED, WEBP, b64, event, streamed, whole
from tests.server_process import CHAT_MODEL, Server, StartServer

from narthex.testing.scripted import Reply, ScriptedUpstream, response

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = pytest.mark.anyio

PICTURES, DRAWN = "house/pictures", "gpt-image-1"


class World:
    """A running server, the official client towards it, and who makes the images."""

    def __init__(self, server: Server, client: AsyncOpenAI, upstream: ScriptedUpstream) -> None:
        self.server = server
        self.client = client
        self.upstream = upstream

    def answers(self, reply: Reply) -> None:
        """Let the server behind give this answer from now on."""
        self.upstream._replies[:] = [reply]

    async def get(self, url: str, *, method: str = "GET") -> httpx2.Response:
        """As anybody would: without a key."""
        async with httpx2.AsyncClient() as client:
            return await client.request(method, url)


@contextlib.asynccontextmanager
async def _running(start_server: StartServer) -> AsyncIterator[World]:
    async with ScriptedUpstream(whole(PNG)) as upstream:
        config = {
            "embedder": {"default": None},
            "providers": {"there": {"type": "openai", "base_url": f"{upstream.url}/v1", "api_key": "sk-theirs"}},
            "models": [
                {"name": PICTURES, "deployments": ["there/flux"]},
                {"name": DRAWN, "deployments": [f"there/{DRAWN}"]},
            ],
        }
        started = start_server(config, models=(CHAT_MODEL,))
        server = await asyncio.to_thread(started.__enter__)
        try:
            async with AsyncOpenAI(base_url=server.base_url, api_key=server.admin_key, max_retries=0) as client:
                yield World(server, client, upstream)
        finally:
            await asyncio.to_thread(started.__exit__, None, None, None)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def world(start_server: StartServer, anyio_backend: str) -> AsyncIterator[World]:
    async with _running(start_server) as made:
        yield made


async def test_images_as_data(world: World) -> None:
    world.answers(whole(PNG, WEBP, usage=USED, **TRAITS))
    made = await world.client.images.generate(model=PICTURES, prompt="A cat", n=2, response_format="b64_json")
    assert [base64.b64decode(image.b64_json or "") for image in made.data or ()] == [PNG, WEBP]
    assert (made.size, made.quality, made.background, made.output_format) == tuple(TRAITS.values())
    assert made.usage is not None
    assert made.usage.total_tokens == 18
    assert made.usage.input_tokens_details.image_tokens == 1
    received = world.upstream.requests[-1]
    assert received.headers["authorization"] == "Bearer sk-theirs"
    assert world.server.admin_key not in str(received.headers)


async def test_images_as_addresses(world: World) -> None:
    world.answers(whole(PNG, JPEG, WEBP))
    made = await world.client.images.generate(model=PICTURES, prompt="A cat", n=3)
    urls = [image.url or "" for image in made.data or ()]
    assert all(url.startswith(f"{world.server.url}/v1/images/files/") for url in urls)
    for url, data, media in zip(urls, (PNG, JPEG, WEBP), ("png", "jpeg", "webp"), strict=True):
        answer = await world.get(url)
        assert (answer.status_code, answer.content) == (200, data)
        assert answer.headers["content-type"] == f"image/{media}"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"].startswith("private, max-age=3")
        head = await world.get(url, method="HEAD")
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(data))
        assert (await world.get(url, method="DELETE")).status_code == 405
    folder = world.server.data / "images"
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
    logged = world.server.log_file.read_text()
    assert "/v1/images/files/***" in logged
    assert not [url for url in urls if url.rpartition("/")[2] in logged]


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "..%2Fadmin.key",
        "../../admin.key",
        "%2e%2e/admin.key",
        "..%2f..%2fetc%2fpasswd",
        "A" * 32 + ".png",
    ],
)
async def test_no_other_name_leads_anywhere(name: str, world: World) -> None:
    host, port = world.server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET /v1/images/files/{name} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 404 ")


async def test_a_model_with_its_own_ways(world: World) -> None:
    world.answers(whole(PNG))
    made = await world.client.images.generate(model=DRAWN, prompt="A cat", moderation="low", output_format="webp")
    assert [image.b64_json for image in made.data or ()] == [b64(PNG)]
    assert b"response_format" not in world.upstream.requests[-1].body
    assert b'"model":"gpt-image-1"' in world.upstream.requests[-1].body


async def test_images_as_they_are_drawn(world: World) -> None:
    half = [event("partial_image", b"half %d" % index, partial_image_index=index) for index in range(2)]
    world.answers(streamed(*half, event("completed", PNG, usage=USED)))
    async with await world.client.images.generate(model=DRAWN, prompt="A cat", stream=True, partial_images=2) as stream:
        first, second, last = [each async for each in stream]
    assert first.type == second.type == "image_generation.partial_image"
    assert (first.partial_image_index, second.partial_image_index) == (0, 1)
    assert base64.b64decode(second.b64_json) == b"half 1"
    assert last.type == "image_generation.completed"
    assert base64.b64decode(last.b64_json) == PNG
    assert (last.size, last.quality, last.background, last.output_format) == tuple(TRAITS.values())
    assert last.usage.total_tokens == 18


async def test_a_stream_that_breaks_raises(world: World) -> None:
    world.answers(streamed(event("partial_image", b"half", partial_image_index=0)))
    async with await world.client.images.generate(model=DRAWN, prompt="A cat", stream=True, partial_images=1) as stream:
        assert (await anext(stream)).type == "image_generation.partial_image"
        with pytest.raises(openai.APIError) as raised:
            await anext(stream)
    assert raised.value.code == "upstream_error"


async def test_a_refusal_is_raised(world: World) -> None:
    refusal = b'{"error": {"message": "Not that.", "param": "prompt", "code": "moderation_blocked"}}'
    world.answers(Reply(response(refusal, status=400)))
    with pytest.raises(openai.BadRequestError, match=r"Not that\.") as raised:
        await world.client.images.generate(model=PICTURES, prompt="A cat")
    assert (raised.value.code, raised.value.param) == ("moderation_blocked", "prompt")


async def test_a_model_that_makes_no_images_says_so(world: World) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        await world.client.images.generate(model=CHAT_MODEL, prompt="A cat")
    assert (raised.value.code, raised.value.param) == ("unsupported_value", "model")
    assert "images" in raised.value.message
    for model in ("nobody", openai.omit):
        with pytest.raises(openai.NotFoundError) as missing:
            await world.client.images.generate(model=model, prompt="A cat")  # type: ignore[arg-type]
        assert missing.value.code == "model_not_found"
