"""TLS towards upstreams: certificates are always verified, against the system's authorities or one's own."""

import functools
import ssl
from pathlib import Path

import msgspec

from narthex.core.errors import ConfigError


class Tls(msgspec.Struct, frozen=True, kw_only=True):
    """Whom to trust, and who we are. `ca_file` replaces the system's authorities; the others are for mutual TLS."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


def context(tls: Tls) -> ssl.SSLContext:
    """A client's context; don't change it. Without files of one's own it is the same for all upstreams.

    Raises:
        ConfigError: a file can't be read or holds no certificate.
    """
    return _usual() if tls == Tls() else _made(tls)


@functools.cache
def _usual() -> ssl.SSLContext:
    """Reading the system's authorities takes some 20 ms, which a reload must not cost for each of its upstreams."""
    return _made(Tls())


def _made(tls: Tls) -> ssl.SSLContext:
    try:
        made = ssl.create_default_context(cafile=tls.ca_file)
        if tls.cert_file is not None:
            made.load_cert_chain(tls.cert_file, tls.key_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError("A certificate file of a model's server can't be read.") from error
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.set_alpn_protocols(["http/1.1"])
    return made
