"""Fetching images over real sockets: what servers of images may do to us, and what we let nobody do through us."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from narthex.testing.scripted import CUT, HANG, RESET, Reply, ScriptedUpstream, chunked, head, response
from narthex.upstream.egress import AT_ONCE, UNREACHABLE, Allowance, Egress, Fetcher, Refused
from narthex.upstream.tls import Tls

pytestmark = [pytest.mark.anyio, pytest.mark.patient]

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 64
JPEG = b"\xff\xd8\xff\xe0" + b"\0" * 64
GIF = b"GIF89a" + b"\0" * 64
WEBP = b"RIFF\0\0\0\0WEBPVP8 " + b"\0" * 64
CERTIFICATE = Path(__file__).parents[1] / "unit/upstream/loopback.pem"

SHORT = head("content-length: 99", "content-type: image/png") + PNG
LONG_LINES = [f"x-{number}: {'y' * 1000}" for number in range(80)]
CHUNKED_PNG = head("content-type: image/png", "transfer-encoding: chunked")


def image(data: bytes = PNG, kind: str = "image/png", *headers: str) -> Reply:
    return Reply(response(data, headers=(f"content-type: {kind}", *headers)))


def redirect(to: str, status: int = 302) -> Reply:
    return Reply(response(b"<html>", status=status, headers=(f"location: {to}",)))


class Names:
    """A resolver that notes names; each leads to its answers in turn, the last one again and again."""

    def __init__(self, **answers: list[list[str]]) -> None:
        self.asked: list[str] = []
        self._answers = answers

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        if (answers := self._answers.get(host.replace(".", "_"))) is not None:
            return answers.pop(0) if len(answers) > 1 else answers[0]
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        return [str(each[4][0]) for each in found]


@asynccontextmanager
async def fetching(
    *replies: Reply, names: Names | None = None, max_bytes: int = 100_000, timeout_s: float = 10.0
) -> AsyncIterator[tuple[ScriptedUpstream, Fetcher]]:
    """A server whose address is allowed at its port, as a public one would be at port 80."""
    async with ScriptedUpstream(*replies) as server:
        allow = (f"127.0.0.1:{server.port}",)
        fetcher = Fetcher(Egress(allow=allow, max_bytes=max_bytes, timeout_s=timeout_s), resolve=names or Names())
        try:
            yield server, fetcher
        finally:
            await fetcher.aclose()


async def refused(fetcher: Fetcher, url: str) -> Refused:
    with pytest.raises(Refused) as caught:
        await fetcher.fetch(url)
    return caught.value


@pytest.mark.parametrize(
    ("data", "told", "kind"),
    [
        (PNG, "image/png", "image/png"),
        (JPEG, "image/jpeg", "image/jpeg"),
        (JPEG, "image/jpg", "image/jpeg"),
        (GIF, "Image/GIF; charset=binary", "image/gif"),
        (WEBP, "image/webp", "image/webp"),
    ],
)
async def test_images_are_fetched(data: bytes, told: str, kind: str) -> None:
    async with fetching(image(data, told)) as (server, fetcher):
        assert await fetcher.fetch(f"{server.url}/a.png?b=c#d") == (kind, data)
    (request,) = server.requests
    assert request.target == "/a.png?b=c"
    assert set(request.headers) == {"host", "accept", "accept-encoding", "user-agent", "connection"}
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["user-agent"] == "narthex"


async def test_bodies_may_be_chunked_or_end_with_the_connection() -> None:
    chunks = Reply(CHUNKED_PNG + chunked(PNG[:9], PNG[9:]))
    open_end = Reply(head("content-type: image/png") + PNG, CUT)
    async with fetching(chunks, open_end) as (server, fetcher):
        for _ in range(2):
            assert (await fetcher.fetch(server.url))[1] == PNG


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        pytest.param(image(b"<html><script>", "image/png"), "bytes", id="html called an image"),
        pytest.param(image(b"<svg xmlns=", "image/svg+xml"), "PNG, JPEG", id="svg"),
        pytest.param(image(PNG, "text/html"), "PNG, JPEG", id="image called html"),
        pytest.param(image(PNG, "image/jpeg"), "image/jpeg", id="another kind of image"),
        pytest.param(image(b"", "image/png"), "bytes", id="empty"),
        pytest.param(Reply(response(PNG)), "PNG, JPEG", id="no type"),
        pytest.param(image(PNG, "image/png", "content-encoding: gzip"), "compressed", id="gzip"),
        pytest.param(image(PNG, "image/png", "content-encoding: br, gzip"), "compressed", id="br and gzip"),
        pytest.param(Reply(response(PNG, status=404, headers=("content-type: image/png",))), "404", id="404"),
        pytest.param(Reply(response(b"", status=204)), "204", id="204"),
        pytest.param(Reply(response(b"", status=304)), "304", id="304"),
        pytest.param(Reply(response(PNG, status=206, headers=("content-type: image/png",))), "206", id="206"),
        pytest.param(Reply(response(b"", status=401, headers=("www-authenticate: Basic",))), "401", id="401"),
        pytest.param(image(PNG + b"\0" * 100_000), "more than", id="too long by its length"),
        pytest.param(
            Reply(CHUNKED_PNG + chunked(b"\0" * 200_000, end=False), HANG),
            "more than",
            id="endless",
        ),
        pytest.param(Reply(head("content-type: image/png") + PNG * 5_000, HANG), "more than", id="endless, no length"),
        pytest.param(Reply(SHORT, CUT), "broke off", id="cut"),
        pytest.param(Reply(SHORT, RESET), "broke off", id="reset"),
        pytest.param(Reply(b"SSH-2.0-OpenSSH_9.2\r\n", CUT, when="connected"), "broke off", id="no HTTP"),
        pytest.param(Reply(head("content-type: image/png", *LONG_LINES) + PNG), "broke off", id="huge head"),
        pytest.param(Reply(response(b"", status=302)), "nowhere", id="redirect to nowhere"),
        pytest.param(redirect("/again"), "too often", id="redirect loop"),
        pytest.param(redirect("file:///etc/passwd"), "URL", id="redirect to a file"),
        pytest.param(redirect("http://user:pass@127.0.0.1/"), "password", id="redirect with a password"),
    ],
)  # fmt: skip
async def test_what_is_no_image(reply: Reply, words: str) -> None:
    async with fetching(reply) as (server, fetcher):
        assert words in (await refused(fetcher, server.url)).why
        for peer in server.peers:
            await peer.closed.wait()


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Reply(HANG), id="no head"),
        pytest.param(Reply(head("content-type: image/png", "content-length: 99"), HANG), id="no body"),
        pytest.param(Reply(head("content-type: image/png", "content-length: 99"), b"\x89", HANG), id="a byte"),
    ],
)
async def test_slow_servers_are_left(reply: Reply) -> None:
    async with fetching(reply, timeout_s=0.2) as (server, fetcher):
        assert "longer than 0.2 s" in (await refused(fetcher, server.url)).why
        await server.peers[0].closed.wait()


async def test_slow_names_are_left() -> None:
    async def never(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    fetcher = Fetcher(Egress(timeout_s=0.1), resolve=never)
    assert "longer" in (await refused(fetcher, "http://a.example/")).why
    await fetcher.aclose()


async def test_who_leaves_ends_the_fetch() -> None:
    async with fetching(Reply(head("content-type: image/png", "content-length: 99"), HANG)) as (server, fetcher):
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(fetcher.fetch(server.url))
            while not server.requests:
                await asyncio.sleep(0.001)
            task.cancel()
        await server.peers[0].closed.wait()


# --- where it leads


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_followed(status: int) -> None:
    async with fetching(redirect("/b", status), redirect("c?d", status), redirect("/e", status), image()) as (
        server,
        fetcher,
    ):
        assert await fetcher.fetch(f"{server.url}/a") == ("image/png", PNG)
    assert [request.target for request in server.requests] == ["/a", "/b", "/c?d", "/e"]
    assert len(server.peers) == 4


async def test_a_fourth_redirect_is_not_followed() -> None:
    async with fetching(redirect("/again")) as (server, fetcher):
        await refused(fetcher, server.url)
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    "to",
    ["http://127.0.0.1/", "http://169.254.169.254/latest/meta-data/", "http://[::1]/", "http://2130706433/",
     "//10.0.0.1/", "http://localhost/", "https://192.168.0.1/", "http://127.0.0.2:{port}/"],
)  # fmt: skip
async def test_redirects_to_private_addresses(to: str) -> None:
    first = Reply(response(b"never sent"))
    async with fetching(first, names=Names(localhost=[["127.0.0.1"]])) as (server, fetcher):
        server.then(redirect(to.format(port=server.port)))
        server.reply()  # the first reply, which was there before the port was known
        result = await refused(fetcher, server.url)
    assert (result.why, result.cause) == (UNREACHABLE, "not a public address")
    assert len(server.requests) == 1


async def test_a_name_is_asked_once_and_the_checked_address_is_used() -> None:
    names = Names(pics_example=[["127.0.0.1"], ["127.0.0.2"]])
    async with fetching(image(), names=names) as (server, fetcher):
        loop = asyncio.get_running_loop()
        inside: list[asyncio.BaseTransport] = []

        class Inside(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                inside.append(transport)

        private = await loop.create_server(Inside, "127.0.0.2", server.port)
        try:
            url = f"http://pics.example:{server.port}/"
            assert await fetcher.fetch(url) == ("image/png", PNG)
            assert names.asked == ["pics.example"]
            assert server.requests[0].headers["host"] == f"pics.example:{server.port}"
            # Asked again, the name leads inside: that is seen before anything is sent.
            assert (await refused(fetcher, url)).cause == "not a public address"
        finally:
            private.close()
    assert not inside
    assert len(server.requests) == 1


async def test_a_redirect_to_the_same_name_is_checked_again() -> None:
    names = Names(pics_example=[["127.0.0.1"], ["10.0.0.1"]])
    async with fetching(redirect("/b"), image(), names=names) as (server, fetcher):
        result = await refused(fetcher, f"http://pics.example:{server.port}/a")
    assert (result.why, result.cause) == (UNREACHABLE, "not a public address")
    assert len(server.requests) == 1


async def test_the_next_address_is_tried_and_refusals_sound_alike() -> None:
    async with ScriptedUpstream(image()) as server:
        names = Names(pics_example=[["127.0.0.2", "127.0.0.1"]], gone_example=[["127.0.0.2"]])
        fetcher = Fetcher(Egress(allow=(f"127.0.0.0/8:{server.port}",)), resolve=names)
        assert await fetcher.fetch(f"http://pics.example:{server.port}/") == ("image/png", PNG)
        nobody = await refused(fetcher, f"http://gone.example:{server.port}/")
        assert (nobody.why, nobody.cause) == (UNREACHABLE, "ConnectionRefusedError")
        await fetcher.aclose()


# --- TLS


async def test_certificates_are_checked_for_the_name() -> None:
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(CERTIFICATE)
    asked: list[str | None] = []
    server_side.sni_callback = lambda _, name, __: asked.append(name)
    async with ScriptedUpstream(image(), redirect("http://127.0.0.1/"), tls=server_side) as server:
        allow = (f"127.0.0.1:{server.port}",)
        names = Names(localhost=[["127.0.0.1"]], pics_example=[["127.0.0.1"]])
        trusting = Fetcher(Egress(allow=allow), resolve=names, tls=Tls(ca_file=CERTIFICATE))
        wary = Fetcher(Egress(allow=allow), resolve=names)
        url = f"https://localhost:{server.port}/"
        assert await trusting.fetch(url) == ("image/png", PNG)
        assert asked == ["localhost"]
        assert "from https to http" in (await refused(trusting, url)).why
        assert (await refused(wary, url)).cause == "SSLCertVerificationError"
        wrong = await refused(trusting, f"https://pics.example:{server.port}/")
        assert (wrong.why, wrong.cause) == (UNREACHABLE, "SSLCertVerificationError")
        await trusting.aclose()
        await wary.aclose()


# --- how much at a time


async def test_only_so_many_are_fetched_at_a_time() -> None:
    go = asyncio.Event()
    waits = Reply(go, response(PNG, headers=("content-type: image/png",)))
    async with fetching(waits) as (server, fetcher), asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(fetcher.fetch(server.url)) for _ in range(AT_ONCE + 3)]
        async with asyncio.timeout(60):
            while len(server.requests) < AT_ONCE:
                await asyncio.sleep(0.001)
        assert len(server.peers) == AT_ONCE
        go.set()
        async with asyncio.timeout(60):
            await asyncio.gather(*running)
        assert len(server.requests) == AT_ONCE + 3


async def test_several_images_share_an_allowance() -> None:
    async with fetching(image()) as (server, fetcher):
        allowance = Allowance(len(PNG) + 10)
        await fetcher.fetch(server.url, allowance)
        with pytest.raises(Refused, match="together"):
            await fetcher.fetch(server.url, allowance)
