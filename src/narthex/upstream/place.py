"""The URL of an image, read strictly: what it says is what is asked for. No I/O."""

import re
from collections.abc import Iterable
from ipaddress import IPv6Address
from typing import Literal
from urllib.parse import quote, urljoin, urlsplit

import msgspec

_LONGEST = 8192
_PORT = {"http": 80, "https": 443}
_BAD = re.compile(r"[\x00-\x20\x7f\\]").search
_NAME = re.compile(r"[a-z0-9_]([a-z0-9._-]{0,251}[a-z0-9_])?\.?").fullmatch
_PLAIN = "!$%&'()*+,/:;=?@[]~"  # what has a meaning there, or is encoded already

INVALID = "it is not a valid http(s) URL"


class BadPlace(Exception):
    """No URL that would be fetched; the text completes "The image can't be fetched: …"."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where to ask, and for what. `host` in lower case, without brackets or a dot at its end; `target` in ASCII."""

    scheme: Literal["http", "https"]
    host: str
    port: int
    target: str

    @classmethod
    def parse(cls, text: str) -> "Place":
        """Read an absolute URL; its fragment is dropped.

        Raises:
            BadPlace: it can't be read, or holds a user name or password.
        """
        if len(text) > _LONGEST or _BAD(text):
            raise BadPlace(INVALID)
        try:
            url = urlsplit(text)
            port = url.port
            host = _host(url.netloc, url.hostname or "")
            target = quote((url.path or "/") + (f"?{url.query}" if url.query else ""), safe=_PLAIN)
        except ValueError:  # UnicodeError is one
            raise BadPlace(INVALID) from None
        if url.scheme not in _PORT or port == 0:
            raise BadPlace(INVALID)
        if "@" in url.netloc:
            raise BadPlace("its URL holds a user name or password")
        scheme: Literal["http", "https"] = "https" if url.scheme == "https" else "http"
        return cls(scheme=scheme, host=host, port=port or _PORT[scheme], target=target)

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORT[self.scheme] else f"{host}:{self.port}"

    def redirected(self, location: bytes) -> "Place":
        """Where an answer sends us.

        Raises:
            BadPlace: as `parse`; or it would leave TLS.
        """
        try:
            text = location.decode()
        except UnicodeDecodeError:
            text = ""
        if not text or _BAD(text):
            raise BadPlace("it redirects to nowhere")
        place = Place.parse(urljoin(f"{self.scheme}://{self.authority}{self.target}", text))
        if self.scheme == "https" and place.scheme == "http":
            raise BadPlace("it redirects from https to http")
        return place

    def request(self, accepted: Iterable[str]) -> bytes:
        """The whole request for it: nothing in it tells of us or of the caller."""
        lines = (
            f"GET {self.target} HTTP/1.1",
            f"host: {self.authority}",
            f"accept: {', '.join(accepted)}",
            "accept-encoding: identity",
            "user-agent: narthex",
            "connection: close",
        )
        return "".join(f"{line}\r\n" for line in (*lines, "")).encode("ascii")


def _host(netloc: str, host: str) -> str:
    if "%" in host or len(host) > 253:
        raise ValueError("not a host")
    if "[" in netloc:
        return str(IPv6Address(host))
    name = host.encode("idna").decode().lower()
    if not _NAME(name):
        raise ValueError("not a host's name")
    return name.rstrip(".")
