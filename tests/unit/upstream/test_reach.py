"""Which addresses are public, which servers are private, and what an operator may allow."""

from ipaddress import ip_address

import pytest

from narthex.core.errors import ConfigError
from narthex.upstream.address import Address
from narthex.upstream.reach import Allowed, is_private, is_public, may_connect

PUBLIC = ["8.8.8.8", "1.1.1.1", "93.184.216.34", "172.32.0.1", "100.128.0.1", "169.253.1.1", "2606:4700::1111",
          "2001:4860:4860::8888", "::ffff:8.8.8.8", "64:ff9b::808:808"]  # fmt: skip
NOT_PUBLIC = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.0.1",
    "169.254.169.254", "169.254.170.2", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1",
    "192.168.0.1", "198.18.0.1", "198.51.100.7", "203.0.113.9", "224.0.0.1", "239.1.2.3", "240.0.0.1",
    "255.255.255.255", "168.63.129.16", "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::808:808", "2002:7f00:1::",
    "2002:a9fe:a9fe::1", "2002:808:808::1", "2001:0:7f00:1::", "2001:db8::1", "2001:10::1", "2001:2::1", "3fff::1",
    "100::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%2", "fec0::1", "ff02::1", "4000::1", "5f00::1",
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_public(address: str) -> None:
    assert is_public(ip_address(address))
    assert may_connect("a", [address], 443, allow=())
    assert not may_connect("a", [address], 22, allow=())


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_not_public(address: str) -> None:
    assert not is_public(ip_address(address))
    assert not may_connect("a", [address], 443, allow=())
    assert not may_connect("a", ["8.8.8.8", address], 443, allow=()), "one of several"


def test_a_name_that_leads_nowhere_is_not_allowed() -> None:
    assert not may_connect("a", [], 443, allow=())


@pytest.mark.parametrize(
    ("entry", "host", "address", "port", "permitted"),
    [
        ("10.1.0.0/16", "a", "10.1.2.3", 80, True),
        ("10.1.0.0/16", "a", "10.1.2.3", 443, True),
        ("10.1.0.0/16", "a", "10.1.2.3", 9000, False),
        ("10.1.0.0/16", "a", "10.2.0.1", 443, False),
        ("10.1.0.0/16", "a", "::ffff:10.1.2.3", 443, True),
        ("10.1.0.0/16", "a", "fd00::1", 443, False),
        ("10.1.2.3", "a", "10.1.2.3", 443, True),
        ("10.1.2.3:9000", "a", "10.1.2.3", 9000, True),
        ("10.1.2.3:9000", "a", "10.1.2.3", 443, False),
        ("fd00::/8", "a", "fd00::1", 443, True),
        ("[fd00::1]:9000", "a", "fd00::1", 9000, True),
        ("[fd00::1]", "a", "fd00::1", 80, True),
        ("Images.Internal", "images.internal", "10.1.2.3", 443, True),
        ("images.internal.", "images.internal", "10.1.2.3", 443, True),
        ("images.internal:9000", "images.internal", "10.1.2.3", 9000, True),
        ("images.internal", "other.internal", "10.1.2.3", 443, False),
        ("images.internal", "a.images.internal", "10.1.2.3", 443, False),
        (" images.internal ", "images.internal", "10.1.2.3", 443, True),
    ],
)
def test_what_an_entry_permits(entry: str, host: str, address: str, port: int, permitted: bool) -> None:
    assert may_connect(host, [address], port, allow=[Allowed.parse(entry)]) is permitted


@pytest.mark.parametrize(
    "text",
    ["", "10.1.2.3/8", "2130706433", "0x7f.1", "host:0", "host:65536", "host:x", "a b", "http://host", "[::1",
     "[host]:1", "-host", "*.internal", "host/24"],
)  # fmt: skip
def test_entries_that_mean_nothing(text: str) -> None:
    with pytest.raises(ConfigError):
        Allowed.parse(text)


@pytest.mark.parametrize(
    ("url", "private"),
    [
        ("unix:/run/llama.sock", True),
        ("http://127.0.0.1:8000/v1", True),
        ("http://localhost:8000/v1", True),
        ("http://LOCALHOST./v1", True),
        ("http://gpu-1:8000/v1", True),
        ("http://gpu.local/v1", True),
        ("http://gpu.corp.internal/v1", True),
        ("http://192.168.1.5/v1", True),
        ("http://[fd00::1]:8000/v1", True),
        ("http://[::1]:8000/v1", True),
        ("http://2130706433/v1", True),
        ("http://0x7f.1/v1", True),
        ("http://127.1/v1", True),
        ("https://8.8.8.8/v1", False),
        ("https://[2606:4700::1111]/v1", False),
        ("https://api.openai.com/v1", None),
    ],
)
def test_where_a_server_stands(url: str, private: bool | None) -> None:
    assert is_private(Address.parse(url)) is private
