"""TLS towards upstreams: certificates are always verified, against the system's authorities or one's own."""

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
    """A client's context. Reads files; costs some 20 ms, so make one per upstream.

    Raises:
        ConfigError: a file can't be read or holds no certificate.
    """
    try:
        made = ssl.create_default_context(cafile=tls.ca_file)
        if tls.cert_file is not None:
            made.load_cert_chain(tls.cert_file, tls.key_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError("A certificate file of a model's server can't be read.") from error
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.set_alpn_protocols(["http/1.1"])
    return made
