"""The certificate of a worker that serves over TLS: read at the start, and again with every reload."""

import ssl

from narthex.core.errors import ConfigError
from narthex.http.worker import WorkerSettings


def check(settings: WorkerSettings) -> None:
    """Read the files.

    Raises:
        ConfigError: they are no certificate with its key.
    """
    if settings.tls_cert is not None:
        renew(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), settings)


def renew(context: ssl.SSLContext, settings: WorkerSettings) -> None:
    """Show new callers the certificate that the files hold now; connections that are open stay as they are.

    Raises:
        ConfigError: they are no certificate with its key.
    """
    try:
        context.load_cert_chain(str(settings.tls_cert), settings.tls_key)
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "reason", None) or error.strerror
        raise ConfigError(f"http.tls: certificate and key can't be used: {reason}.") from None
