"""Requests with images on their way to servers that must not fetch: what reaches them, and what is refused."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from tests.scripted_deployment import principal

from narthex.core.capabilities import Capabilities
from narthex.core.chat import ChatRequest, ImagePart
from narthex.core.embeddings import EmbeddingsRequest
from narthex.core.errors import InvalidRequest
from narthex.core.ports import NO_CLOCKS, Call, Deployment, Opened, Request, Stream, Surface
from narthex.dialects.openai_chat import ChatDialect
from narthex.dialects.openai_embeddings import EmbeddingsDialect
from narthex.testing.scripted import Reply, ScriptedUpstream, response
from narthex.upstream.address import Address
from narthex.upstream.egress import Egress, Fetcher
from narthex.upstream.images import MOST_IMAGES, ImagesAsData, Whereabouts

pytestmark = pytest.mark.anyio

PNG = b"\x89PNG\r\n\x1a\n0"
DATA = "data:image/png;base64,iVBORw0KGgow"


class Noted:
    """A deployment that notes what it is asked."""

    name = "there/big"
    clocks = NO_CLOCKS
    fingerprint = "fp_1"

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def capabilities(self, surface: Surface) -> Capabilities | None:
        return {} if surface == "chat" else None

    def continues(self, call: Call) -> bool:
        return call.surface == "chat"

    def open(self, call: Call) -> Opened:
        return self._open(call)

    @asynccontextmanager
    async def _open(self, call: Call) -> AsyncIterator[Stream]:
        self.requests.append(call.request)
        yield cast(Stream, None)

    @property
    def sent(self) -> Any:
        """The messages of the only request, as they go out."""
        (request,) = self.requests
        return json.loads(bytes(request.sent["messages"]))


def call_of(messages: Any, raw: str | None = None) -> Call:
    text = raw or json.dumps(messages)
    decoded = ChatDialect().decode(f'{{"model": "m", "messages": {text}}}'.encode(), profile="openai", strict=True)
    return Call(decoded.request, id="1", surface="chat", principal=principal(), started_s=0.0)


def shows(*urls: str, text: str = "What is this?", **members: Any) -> list[dict[str, Any]]:
    parts = [{"type": "image_url", "image_url": {"url": url, **members}} for url in urls]
    return [{"role": "user", "content": [{"type": "text", "text": text}, *parts]}]


@asynccontextmanager
async def serving(*replies: Reply, **settings: Any) -> AsyncIterator[tuple[ScriptedUpstream, Fetcher]]:
    image = Reply(response(PNG, headers=("content-type: image/png",)))
    async with ScriptedUpstream(*(replies or (image,))) as server:
        fetcher = Fetcher(Egress(allow=(f"127.0.0.1:{server.port}",), **settings))
        try:
            yield server, fetcher
        finally:
            await fetcher.aclose()


async def ask(deployment: ImagesAsData, call: Call) -> None:
    async with deployment.open(call):
        pass


async def refused(deployment: ImagesAsData, call: Call) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        await ask(deployment, call)
    assert caught.value.code == "invalid_image_url"
    return caught.value


async def test_images_go_as_data() -> None:
    noted = Noted()
    async with serving() as (server, fetcher):
        a, b = f"{server.url}/a", f"{server.url}/b"
        messages = [*shows(a, b, DATA, a, detail="low"), {"role": "assistant", "content": "One."}, *shows(b)]
        call = call_of(messages)
        await ask(ImagesAsData(noted, fetcher, whereabouts=None), call)
    assert sorted(request.target for request in server.requests) == ["/a", "/b"], "each once"
    expected = [*shows(DATA, DATA, DATA, DATA, detail="low"), messages[1], *shows(DATA)]
    assert noted.sent == expected
    (request,) = noted.requests
    assert isinstance(request, ChatRequest)
    assert request.fields["messages"] == request.messages
    assert request.messages[0].content[1:] == (ImagePart(DATA, "low"),) * 4  # type: ignore[index]
    assert request.messages[1].content == "One."
    assert call.request is not request, "another attempt begins with the caller's own words"
    assert a.encode() in bytes(call.request.sent["messages"])


async def test_a_part_may_stand_alone() -> None:
    noted = Noted()
    async with serving() as (server, fetcher):
        alone = [{"role": "user", "content": shows(server.url)[0]["content"][1]}]
        await ask(ImagesAsData(noted, fetcher, whereabouts=None), call_of(alone))
    assert noted.sent[0]["content"]["image_url"]["url"] == DATA


@pytest.mark.parametrize(
    "raw",
    [
        '[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "%s", "url": "data:,"}}]}]',
        '[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "%s"}}], "content": "Hi"}]',
        '[{"role": "user", "content": [{"type": "image\\u005furl", "image\\u005furl": {"url": "%s"}}], "content": ""}]',
    ],
)
async def test_an_address_that_another_reader_would_find_does_not_go_out(raw: str) -> None:
    noted = Noted()
    async with serving() as (server, fetcher):
        await ask(ImagesAsData(noted, fetcher, whereabouts=None), call_of(None, raw % server.url))
        assert server.url not in json.dumps(noted.sent)
        assert not server.requests


async def test_an_escaped_name_hides_nothing() -> None:
    noted = Noted()
    raw = '[{"role": "user", "content": [{"type": "image\\u005furl", "image\\u005furl": {"url": "%s"}}]}]'
    async with serving() as (server, fetcher):
        await ask(ImagesAsData(noted, fetcher, whereabouts=None), call_of(None, raw % server.url))
    assert noted.sent[0]["content"][0]["image_url"]["url"] == DATA


async def test_other_requests_pass_as_they_are() -> None:
    noted = Noted()
    deployment = ImagesAsData(noted, Fetcher(Egress()), whereabouts=None)
    raw = '[ {"role":"user" , "content":"Hi"} ]'
    call = call_of(None, raw)
    await ask(deployment, call)
    assert noted.requests == [call.request]
    embeddings = EmbeddingsDialect().decode(b'{"model": "m", "input": "a"}', profile="openai", strict=True)
    await ask(deployment, Call(embeddings.request, id="1", surface="embeddings", principal=principal(), started_s=0.0))
    assert isinstance(noted.requests[1], EmbeddingsRequest)
    assert (deployment.name, deployment.fingerprint) == ("there/big", "fp_1")
    assert (deployment.capabilities("chat"), deployment.capabilities("images")) == ({}, None)
    assert deployment.continues(call)
    wrapped: Deployment = deployment
    assert wrapped is deployment


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://169.254.169.254/latest/", "can't be reached from here"),
        ("http://localhost/", "can't be reached from here"),
        ("file:///etc/passwd", "not a valid http(s) or data URL"),
        ("/etc/passwd", "not a valid http(s) or data URL"),
        (" http://127.0.0.1/", "not a valid http(s) or data URL"),
        ("ftp://a/", "not a valid http(s) or data URL"),
        ("HTTP://user:pass@a/", "user name or password"),
    ],
)
async def test_refusals_name_the_place(url: str, words: str) -> None:
    noted = Noted()
    async with serving() as (server, fetcher):
        messages = [{"role": "user", "content": "Hi"}, *shows(server.url, url), *shows(url)]
        error = await refused(ImagesAsData(noted, fetcher, whereabouts=None), call_of(messages))
    assert words in error.message
    assert error.param == "messages[1].content[2].image_url.url"
    assert url not in error.message
    assert not noted.requests


def holds(file_data: str) -> list[dict[str, Any]]:
    file = {"type": "file", "file": {"file_data": file_data, "filename": "a.pdf"}}
    return [{"role": "user", "content": [{"type": "text", "text": "Read."}, file]}]


@pytest.mark.parametrize("data", ["http://169.254.169.254/", " HTTPS://a/", "file:///etc/passwd", "gs://a/b"])
async def test_files_by_address_are_refused(data: str) -> None:
    noted = Noted()
    with pytest.raises(InvalidRequest) as caught:
        await ask(ImagesAsData(noted, Fetcher(Egress()), whereabouts=None), call_of(holds(data)))
    assert (caught.value.param, caught.value.code) == ("messages[0].content[1].file.file_data", "invalid_value")
    assert not noted.requests


@pytest.mark.parametrize("data", ["JVBERi0x", "data:application/pdf;base64,JVBERi0x"])
async def test_files_as_data_pass(data: str) -> None:
    noted = Noted()
    await ask(ImagesAsData(noted, Fetcher(Egress()), whereabouts=None), call_of(holds(data)))
    assert noted.sent == holds(data)


async def test_fetching_may_be_off() -> None:
    noted = Noted()
    async with serving(images="refuse") as (server, fetcher):
        deployment = ImagesAsData(noted, fetcher, whereabouts=None)
        assert "data URLs" in (await refused(deployment, call_of(shows(server.url)))).message
        await ask(deployment, call_of(shows(DATA)))
    assert not server.requests
    assert noted.sent == shows(DATA)


async def test_only_so_many_images() -> None:
    async with serving() as (server, fetcher):
        urls = [f"{server.url}/{number}" for number in range(MOST_IMAGES + 1)]
        error = await refused(ImagesAsData(Noted(), fetcher, whereabouts=None), call_of(shows(*urls)))
    assert (error.param, str(MOST_IMAGES) in error.message) == ("messages", True)
    assert not server.requests


# --- where the server of models stands


async def test_a_public_server_gets_the_address_itself() -> None:
    noted = Noted()
    async with serving() as (server, fetcher):
        whereabouts = Whereabouts(Address.parse("https://8.8.8.8/v1"), fetcher)
        call = call_of(shows(server.url))
        await ask(ImagesAsData(noted, fetcher, whereabouts=whereabouts), call)
    assert noted.requests == [call.request]
    assert not server.requests


async def test_a_private_server_gets_data() -> None:
    noted = Noted()
    async with serving() as (server, fetcher):
        whereabouts = Whereabouts(Address.parse("http://gpu-1:8000/v1"), fetcher)
        await ask(ImagesAsData(noted, fetcher, whereabouts=whereabouts), call_of(shows(server.url)))
    assert noted.sent == shows(DATA)


async def test_a_name_is_looked_up_when_it_matters_and_once_it_is_known() -> None:
    answers: list[list[str] | None] = [None, ["8.8.8.8"], ["127.0.0.1"]]

    async def resolve(host: str, port: int) -> list[str]:
        if (answer := answers.pop(0)) is None:
            raise OSError
        return answer

    fetcher = Fetcher(Egress(), resolve=resolve)
    whereabouts = Whereabouts(Address.parse("https://models.example:8443/v1"), fetcher)
    assert [await whereabouts.private() for _ in range(3)] == [True, False, False]
    assert answers == [["127.0.0.1"]]
    await fetcher.aclose()


@pytest.mark.parametrize(
    ("addresses", "private"), [(["8.8.8.8", "10.0.0.1"], True), (["2606:4700::1"], False), ([], True)]
)
async def test_one_private_address_is_enough(addresses: list[str], private: bool) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return addresses

    fetcher = Fetcher(Egress(), resolve=resolve)
    assert await Whereabouts(Address.parse("https://models.example/v1"), fetcher).private() is private
    await fetcher.aclose()
