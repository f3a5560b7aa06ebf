"""Bytes that no client library sends: half requests, pipelines, odd methods, tricks in paths and headers."""

import asyncio
import json
import time
from collections.abc import Iterator

import pytest
from tests.callers import CHAT, ask, chat, connected
from tests.server_inside import pid
from tests.server_process import CHAT_MODEL, Server, StartServer

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = [pytest.mark.anyio, pytest.mark.patient]


@pytest.fixture(scope="module")
def server(start_server: StartServer) -> Iterator[Server]:
    config = {"embedder": {"default": None}, "http": {"body_limit_bytes": 100_000}}
    with start_server(config, models=(CHAT_MODEL,)) as running:
        yield running


@pytest.fixture(autouse=True)
async def no_fault_of_ours(server: Server) -> None:
    """The worker lives on, and nothing that was sent before is a 500."""
    await pid(server, "worker-0")
    for line in server.log_lines():
        assert line.get("status") != 500, line
        assert "Traceback" not in line.get("exception", ""), line


async def said(server: Server, *pieces: bytes, closing: bool = True) -> bytes:
    """What comes back for these bytes until the connection ends."""
    async with connected(server) as caller:
        for piece in pieces:
            caller.writer.write(piece)
            await caller.writer.drain()
        if closing:
            caller.writer.write_eof()
        async with asyncio.timeout(60):
            return await caller.reader.read()


def request(line: str, *headers: str, body: bytes = b"", host: str = "127.0.0.1") -> bytes:
    return "\r\n".join((line, f"host: {host}", *headers, "", "")).encode("latin-1") + body


def statuses(received: bytes) -> list[int]:
    return [int(part.split(b" ", 1)[0]) for part in received.split(b"HTTP/1.1 ")[1:]]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("localhost:1", 200),
        ("LOCALHOST", 200),
        ("[::1]:8000", 200),
        ("evil.example", 400),
        ("127.0.0.1.evil.example", 400),
        ("evil.example:8000", 400),
        ("localhost:80@evil.example", 400),
    ],
)
async def test_only_our_own_host_names_are_answered(server: Server, host: str, status: int) -> None:
    received = await said(server, request("GET /healthz HTTP/1.1", "connection: close", host=host))
    assert statuses(received) == [status]


@pytest.mark.parametrize(
    "target",
    [
        "//",
        "//v1/models",
        "/v1//models",
        "/v1/models/",
        "/v1/models/%2e%2e",
        "/v1/models/../../etc/passwd",
        "/v1/models/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/v1/models/%00",
        "/v1/models/%ff%fe",
        "/v1/models/%",
        "/v1/%6dodels/nothing",
        "/" + "a" * 9_000,
        "/v1/models?" + "q" * 9_000,
        "http://evil.example/v1/models",
        "/..",
        "*",
        "/v1/chat/completions#x",
    ],
)
@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
async def test_no_path_is_a_fault_of_ours(server: Server, method: str, target: str) -> None:
    head = request(f"{method} {target} HTTP/1.1", f"authorization: Bearer {server.admin_key}", "connection: close")
    for status in statuses(await said(server, head)):
        assert status in {200, 400, 403, 404, 405, 415}
        assert status != 200 or (method == "GET" and ("models" in target or target.endswith("completions#x")))


@pytest.mark.parametrize("method", ["PUT", "PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW", "get", "G" * 5000, "\x01"])
async def test_no_method_is_a_fault_of_ours(server: Server, method: str) -> None:
    for path in ("/v1/models", CHAT, "/healthz", "/nowhere"):
        received = await said(server, request(f"{method} {path} HTTP/1.1", "connection: close"))
        for status in statuses(received):
            assert status in {400, 401, 404, 405, 501}


async def test_head_has_no_body(server: Server) -> None:
    received = await said(server, request("HEAD /healthz HTTP/1.1", "connection: close"))
    assert statuses(received) == [200]
    assert received.endswith(b"\r\n\r\n")


async def test_http_1_0_is_answered_and_closed(server: Server) -> None:
    authorization = f"authorization: Bearer {server.admin_key}"
    received = await said(server, request("GET /v1/models HTTP/1.0", authorization), closing=False)
    assert statuses(received) == [200]
    assert CHAT_MODEL.encode() in received
    body = json.dumps(chat("Hello", max_tokens=3, stream=True)).encode()
    head = request(f"POST {CHAT} HTTP/1.0", authorization, f"content-length: {len(body)}")
    received = await said(server, head + body, closing=False)
    assert statuses(received) == [200]
    assert b"data: [DONE]" in received


async def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    authorization = f"authorization: Bearer {server.admin_key}"
    body = json.dumps(chat("Hello", max_tokens=2)).encode()
    received = await said(
        server,
        request("GET /v1/models HTTP/1.1", authorization)
        + request("GET /nowhere HTTP/1.1", authorization)
        + request(f"POST {CHAT} HTTP/1.1", authorization, f"content-length: {len(body)}", body=body)
        + request("GET /healthz HTTP/1.1", "connection: close"),
        closing=False,
    )
    assert statuses(received) == [200, 404, 200, 200]


async def test_half_a_body_is_no_request(server: Server) -> None:
    head = request(f"POST {CHAT} HTTP/1.1", f"authorization: Bearer {server.admin_key}", "content-length: 1000")
    assert statuses(await said(server, head, b'{"model":')) in ([], [400])
    async with connected(server) as caller:
        caller.writer.write(head + b'{"model":')
        await caller.writer.drain()
        caller.leave(reset=True)
    assert (await ask(server, CHAT, chat("Hello", max_tokens=2))).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        ("content-length: 5", "content-length: 6"),
        ("content-length: 5", "transfer-encoding: chunked"),
        ("transfer-encoding: chunked, identity",),
        ("transfer-encoding: gzip",),
        ("content-length: -1",),
        ("content-length: 99999999999999999999999999",),
        ("content-length: 200000",),
        ("x: \x00",),
        (" folded: x",),
        ("no colon at all",),
        ("x: " + "y" * 100_000,),
        *((f"authorization: Bearer {token}",) for token in ("", "\xff\xfe", "x" * 10_000, "a b c")),
    ],
)
async def test_no_header_is_a_fault_of_ours(server: Server, headers: tuple[str, ...]) -> None:
    received = await said(server, request(f"POST {CHAT} HTTP/1.1", *headers, body=b"0\r\n\r\n" + b"x" * 10))
    for status in statuses(received):
        assert status in {400, 401, 413, 415, 431}


async def test_chunks_beyond_the_limit_are_refused_before_they_end(server: Server) -> None:
    head = request(f"POST {CHAT} HTTP/1.1", f"authorization: Bearer {server.admin_key}", "transfer-encoding: chunked")
    async with connected(server) as caller:
        caller.writer.write(head)
        for _ in range(40):
            caller.writer.write(b"%x\r\n%b\r\n" % (4096, b" " * 4096))
        await caller.writer.drain()
        async with asyncio.timeout(60):
            assert (await caller.reader.readline()).startswith(b"HTTP/1.1 413")


async def test_a_hundred_slow_heads_keep_nobody_waiting(server: Server) -> None:
    slow = [connected(server) for _ in range(100)]
    callers = [await one.__aenter__() for one in slow]
    try:
        for caller in callers:
            caller.writer.write(b"GET /v1/models HTTP/1.1\r\nhost: 127.0.0.1\r\nx-slow: ")
        took = []
        for _ in range(3):
            for caller in callers:
                caller.writer.write(b"a")
            began = time.monotonic()
            assert (await ask(server, "/v1/models")).status == 200
            took.append(time.monotonic() - began)
        assert min(took) < 2
    finally:
        for one in slow:
            await one.__aexit__(None, None, None)
