"""Where an upstream listens: a TCP address, with or without TLS, or a unix socket."""

import base64
from typing import Literal
from urllib.parse import unquote, urlsplit

import msgspec
from typing_extensions import override

from narthex.core.errors import ConfigError

_DEFAULT_PORT = {"http": 80, "https": 443}


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """One upstream's address. Hashable; its text forms never show user name or password.

    `host` is without brackets; `socket` is the path of a unix socket, "" for TCP; `base` is the path that comes before
    every request's, without a slash at its end; `userinfo` is `user:password`, decoded.
    """

    scheme: Literal["http", "https", "http+unix"]
    host: str
    port: int
    socket: str = ""
    base: str = ""
    userinfo: str = ""

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read `http://host:port/base`, `https://…`, `unix:/path.sock` or `http+unix://%2Fpath.sock/base`.

        Raises:
            ConfigError: it is none of these. The message never repeats the text, which may hold a password.
        """
        try:
            url = urlsplit(text)
            port = url.port
            host = (url.hostname or "").encode("idna").decode() if not _is_ipv6(url.netloc) else url.hostname or ""
        except ValueError:  # UnicodeError is one
            raise ConfigError("The address of a model's server can't be read.") from None
        if any(character <= " " or character == "\x7f" for character in text) or url.query or url.fragment:
            raise ConfigError("The address of a model's server must have no spaces, query or fragment.")
        if url.scheme == "unix" and url.path.startswith("/"):
            return cls(scheme="http+unix", host="localhost", port=0, socket=unquote(url.path))
        if url.scheme == "http+unix" and url.netloc:
            return cls(scheme="http+unix", host="localhost", port=0, socket=unquote(url.netloc), base=_base(url.path))
        if url.scheme not in _DEFAULT_PORT or not host or port == 0:
            raise ConfigError(
                "The address of a model's server must begin with http://, https://, unix: or http+unix://."
            )
        scheme: Literal["http", "https"] = "https" if url.scheme == "https" else "http"
        userinfo = url.netloc.rpartition("@")[0]
        return cls(
            scheme=scheme,
            host=host,
            port=port or _DEFAULT_PORT[scheme],
            base=_base(url.path),
            userinfo=unquote(userinfo),
        )

    @property
    def authority(self) -> str:
        """The value of the Host header: with the port where it is not the scheme's own."""
        if self.socket:
            return self.host
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORT[self.scheme] else f"{host}:{self.port}"

    @property
    def basic_authorization(self) -> str | None:
        """The Authorization header that the address' user name and password make. Secret."""
        return f"Basic {base64.b64encode(self.userinfo.encode()).decode()}" if self.userinfo else None

    @override
    def __str__(self) -> str:
        """The address as logs may show it."""
        return f"unix:{self.socket}" if self.socket else f"{self.scheme}://{self.authority}{self.base}"

    @override
    def __repr__(self) -> str:
        return f"Address({str(self)!r})"


def _is_ipv6(netloc: str) -> bool:
    return netloc.rpartition("@")[2].startswith("[")


def _base(path: str) -> str:
    if not path.isascii():
        raise ConfigError("The path in the address of a model's server must be percent-encoded.")
    return path.rstrip("/")
