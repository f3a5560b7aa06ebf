"""What the fetcher refuses before it connects: a table of names stands for the world's name servers."""

import socket

import pytest

from narthex.upstream.egress import UNREACHABLE, Allowance, Egress, Fetcher, Refused

pytestmark = pytest.mark.anyio

NAMES = {
    "intranet.example": ["10.0.0.5"],
    "metadata.google.internal": ["169.254.169.254"],
    "both.example": ["93.184.216.34", "192.168.0.1"],
    "both6.example": ["2606:4700::1111", "fd00::1"],
    "loopback.example": ["127.0.0.1"],
    "loopback6.example": ["::1"],
    "mapped.example": ["::ffff:169.254.169.254"],
    "nat64.example": ["64:ff9b::a9fe:a9fe"],
    "sixtofour.example": ["2002:7f00:1::1"],
    "teredo.example": ["2001:0:4136:e378:8000:63bf:3fff:fdd2"],
    "cgnat.example": ["100.64.1.1"],
    "multicast.example": ["239.0.0.1"],
    "unspecified.example": ["0.0.0.0"],
    "link.example": ["fe80::1%2"],
    "azure.example": ["168.63.129.16"],
    "empty.example": [],
    "localhost": ["127.0.0.1", "::1"],
    "public.example": ["93.184.216.34"],
}


async def looked_up(host: str, port: int) -> list[str]:
    """Numbers as the system reads them, names by the table."""
    if host in NAMES:
        return NAMES[host]
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    return [str(each[4][0]) for each in found]


async def why(url: str, **settings: object) -> Refused:
    fetcher = Fetcher(Egress(**settings), resolve=looked_up)  # type: ignore[arg-type]
    try:
        with pytest.raises(Refused) as refused:
            await fetcher.fetch(url)
        return refused.value
    finally:
        await fetcher.aclose()


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.1", "127.0.1", "0.0.0.0", "0", "2130706433", "0x7f000001", "0x7f.1", "0x7f.0.0.1",
        "017700000001", "0177.0.0.1", "127.0.0.1.", "\uff11\uff12\uff17.0.0.1", "10.1.2.3", "172.16.5.4",
        "192.168.1.1", "169.254.169.254", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "100.100.100.200",
        "192.0.0.192", "198.18.0.1", "224.0.0.251", "255.255.255.255", "168.63.129.16", "[::]", "[::1]",
        "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]", "[2001:0:7f00:1::]", "[fd00:ec2::254]", "[fe80::1]", "[ff02::1]", "[fec0::1]",
        "intranet.example", "metadata.google.internal", "both.example", "both6.example", "loopback.example",
        "LOOPBACK.example.", "loopback6.example", "mapped.example", "nat64.example", "sixtofour.example",
        "teredo.example", "cgnat.example", "multicast.example", "unspecified.example", "link.example",
        "azure.example", "empty.example", "localhost",
    ],
)  # fmt: skip
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_hosts_that_are_not_public(host: str, scheme: str) -> None:
    refused = await why(f"{scheme}://{host}/latest/meta-data/")
    assert (refused.why, refused.cause) == (UNREACHABLE, "not a public address")


async def test_unknown_names_are_refused_in_the_same_words() -> None:
    refused = await why("https://nowhere.example/")
    assert (refused.why, refused.cause) == (UNREACHABLE, "no such name")


@pytest.mark.parametrize("port", [1, 22, 25, 6379, 8080, 11434])
async def test_other_ports_are_refused(port: int) -> None:
    assert "ports 80 and 443" in (await why(f"http://public.example:{port}/")).why


async def test_a_port_of_an_entry_is_for_that_entry_only() -> None:
    refused = await why("http://public.example:9000/", allow=("10.0.0.0/8:9000",))
    assert (refused.why, refused.cause) == (UNREACHABLE, "not a public address")


async def test_an_allowed_name_is_no_more_than_that_name() -> None:
    refused = await why("http://loopback.example/", allow=("intranet.example",))
    assert refused.why == UNREACHABLE


@pytest.mark.parametrize("url", ["http://user:pass@public.example/", "file:///etc/passwd", "nonsense"])
async def test_urls_that_can_not_be_read(url: str) -> None:
    assert "URL" in (await why(url)).why


async def test_the_system_is_asked_for_addresses() -> None:
    fetcher = Fetcher(Egress())
    try:
        assert await fetcher.resolve("127.0.0.1", 80) == ["127.0.0.1"]
        with pytest.raises(Refused) as refused:
            await fetcher.fetch("http://127.0.0.1/")
    finally:
        await fetcher.aclose()
    assert refused.value.cause == "not a public address"


def test_an_allowance_is_used_up() -> None:
    allowance = Allowance(10)
    allowance.take(10)
    with pytest.raises(Refused):
        allowance.take(1)
