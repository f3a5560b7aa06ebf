"""TLS towards an upstream: verified against the authorities that are named, and refused otherwise."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from narthex.core.errors import ConfigError, UpstreamProtocolError, UpstreamUnavailable
from narthex.testing.scripted import CUT, HANG, Reply, ScriptedUpstream, head, response, sse, stream_head
from narthex.upstream.address import Address
from narthex.upstream.client import UpstreamClient
from narthex.upstream.tls import Tls, context

LOOPBACK = Path(__file__).parent / "loopback.pem"
MUTUAL = Tls(ca_file=LOOPBACK, cert_file=LOOPBACK, key_file=LOOPBACK)


@asynccontextmanager
async def serving(*replies: Reply, tls: Tls | None) -> AsyncIterator[tuple[ScriptedUpstream, UpstreamClient]]:
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=LOOPBACK)
    server.load_cert_chain(LOOPBACK)
    server.set_alpn_protocols(["h2", "http/1.1"])
    if tls is MUTUAL:
        server.verify_mode = ssl.CERT_REQUIRED
    async with ScriptedUpstream(*replies, tls=server) as upstream:
        client = UpstreamClient(Address.parse(upstream.url), tls=tls)
        try:
            yield upstream, client
        finally:
            await client.aclose()


@pytest.mark.anyio
@pytest.mark.parametrize("tls", [Tls(ca_file=LOOPBACK), MUTUAL], ids=["server", "mutual"])
async def test_a_trusted_server_on_one_connection(tls: Tls) -> None:
    body = bytes(4 * 1024 * 1024)
    async with serving(Reply(response(body)), tls=tls) as (upstream, client):
        for _ in range(2):
            async with client.send("POST", "/", body) as answer:
                assert await answer.read() == body
        assert [request.body for request in upstream.requests] == [body, body]
        assert len(upstream.peers) == 1


@pytest.mark.anyio
async def test_an_unknown_authority_is_refused() -> None:
    async with serving(Reply(response(b"ok")), tls=None) as (_, client):
        with pytest.raises(UpstreamUnavailable) as caught:
            async with client.send("GET", "/"):
                pass
        assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)


@pytest.mark.anyio
async def test_leaving_early_closes_the_connection_at_once() -> None:
    async with serving(Reply(stream_head(), sse(b"1"), HANG), tls=Tls(ca_file=LOOPBACK)) as (upstream, client):
        async with client.send("POST", "/", b"{}") as answer:
            assert await answer.receive() == b"data: 1\n\n"
            since_s = time.monotonic()
        await asyncio.wait_for(upstream.peers[0].closed.wait(), 60)
        closed_at_s = upstream.peers[0].closed_at_s
        assert closed_at_s is not None
        assert closed_at_s - since_s < 0.1


@pytest.mark.anyio
async def test_a_cut_body() -> None:
    reply = Reply(head("content-length: 9") + b"cut", CUT)
    async with serving(reply, tls=Tls(ca_file=LOOPBACK)) as (_, client), client.send("POST", "/", b"{}") as answer:
        with pytest.raises(UpstreamProtocolError):
            await answer.read()


def test_files_that_can_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    for tls in (Tls(ca_file=tmp_path / "none.pem"), Tls(cert_file=tmp_path / "empty.pem")):
        with pytest.raises(ConfigError):
            context(tls)


def test_old_versions_are_not_spoken() -> None:
    made = context(Tls())
    assert made.minimum_version is ssl.TLSVersion.TLSv1_2
    assert made.verify_mode is ssl.CERT_REQUIRED
    assert made.check_hostname
