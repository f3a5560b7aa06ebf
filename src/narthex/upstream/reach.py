"""Which addresses belong to the public internet, and which servers stand on a private network. No I/O.

Sources: IANA's registries of special-purpose addresses (RFC 6890); RFC 6052 for IPv4 addresses within IPv6 ones.

Rule: what is not known to be public is private.
"""

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import msgspec

from narthex.core.errors import ConfigError
from narthex.upstream.address import Address

IpAddress = IPv4Address | IPv6Address

PORTS = frozenset((80, 443))
"""Where images may be fetched unless an entry of the configuration names another port."""

_NOT_PUBLIC_4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
            "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24",
            "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
            "168.63.129.16/32",  # looks public; a cloud answers there to its own machines only
        ),
    )
)  # fmt: skip
_PUBLIC_6 = IPv6Network("2000::/3")
_NOT_PUBLIC_6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # Teredo, ORCHID, benchmarks and other protocols' own
            "2001:db8::/32", "2002::/16", "3fff::/20",
        ),
    )
)  # fmt: skip
_NAT64 = IPv6Network("64:ff9b::/96")

_ENTRY = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\[\]:]+))(?::(\d{1,5}))?").fullmatch
_NAME = re.compile(r"[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?\.?").fullmatch
_PRIVATE_ENDINGS = (".local", ".localhost", ".internal", ".intranet", ".lan", ".home", ".corp", ".home.arpa", ".test")


def is_public(address: IpAddress) -> bool:
    """Whether everybody reaches the same machine at this address.

    An address that holds another one, mapped or translated, is as public as that one; tunnels' addresses are not.
    """
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_4)
    if address.ipv4_mapped is not None:
        return is_public(address.ipv4_mapped)
    if address in _NAT64:
        return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
    return address in _PUBLIC_6 and not any(address in network for network in _NOT_PUBLIC_6)


class Allowed(msgspec.Struct, frozen=True, kw_only=True):
    """Where images may be fetched although it isn't public: a network, or a name wherever it leads; and at which port,
    None: the usual ones.
    """

    network: IPv4Network | IPv6Network | None = None
    host: str = ""
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Allowed":
        """Read `images.internal`, `10.1.2.0/24`, `10.1.2.3:9000`, `fd00::/8` or `[fd00::1]:9000`.

        Raises:
            ConfigError: it is none of these.
        """
        lower = text.strip().lower()
        try:
            return cls(network=ip_network(lower))
        except ValueError:
            found = _ENTRY(lower)
        if found is None or (port := int(found[3] or 80)) > 65535 or port == 0:
            raise ConfigError(f"'{text[:100]}' is no address, network or host name.")
        try:
            return cls(network=ip_network(found[1] or found[2]), port=int(found[3]) if found[3] else None)
        except ValueError:
            if found[1] or not _NAME(found[2]) or _is_number(found[2]):
                raise ConfigError(f"'{text[:100]}' is no address, network or host name.") from None
        return cls(host=found[2].rstrip("."), port=int(found[3]) if found[3] else None)

    def permits(self, host: str, address: IpAddress, port: int) -> bool:
        """Whether a connection to this address for this name may be made."""
        if port != self.port and (self.port is not None or port not in PORTS):
            return False
        if self.network is None:
            return host == self.host
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        return (mapped or address) in self.network


def may_connect(host: str, addresses: Iterable[str], port: int, *, allow: Iterable[Allowed]) -> bool:
    """Whether every one of a name's addresses may be connected to. `host` in lower case, without a dot at its end."""
    found = [ip_address(address) for address in addresses]
    return bool(found) and all(
        (port in PORTS and is_public(each)) or any(entry.permits(host, each, port) for entry in allow) for each in found
    )


def is_private(address: Address) -> bool | None:
    """Whether a model's server is on a private network, by its address alone; None: its name has to be looked up."""
    host = address.host.lower().rstrip(".")
    if address.socket or "." not in host.replace(":", ".") or host.endswith(_PRIVATE_ENDINGS):
        return True
    try:
        return not is_public(ip_address(host))
    except ValueError:
        return True if _is_number(host) else None


def _is_number(host: str) -> bool:
    """Whether a resolver may take a name for an address in an unusual form, such as 0x7f.1."""
    return host.rpartition(".")[2].removeprefix("0x").isdigit() or host.rpartition(".")[2].startswith("0x")
