"""The listening sockets: bound once, inherited by every worker, so no connection is refused while workers change."""

import errno
import os
import socket
import stat
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from narthex.core.errors import ConfigError

BACKLOG = 2048
_RETRY_S = 0.05


def bind(hosts: Sequence[str], port: int, *, patience_s: float = 0.0) -> list[socket.socket]:
    """Listening sockets on every address of `hosts`. With port 0 all get the same free port.

    `patience_s`: how long a port that is in use may stay so, for the last children of a killed supervisor to end.

    Raises:
        ConfigError: an address is taken, unknown, or not allowed.
    """
    bound: list[socket.socket] = []
    try:
        for host in hosts:
            for family, address in _addresses(host, port):
                given = (address[0], bound[0].getsockname()[1], *address[2:]) if bound and not port else address
                bound.append(_bind(family, given, patience_s=patience_s))
    except ConfigError:
        for one in bound:
            one.close()
        raise
    return bound


def _addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[Any, ...]]]:
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise ConfigError(f"Can't listen on {host}: {error.strerror}.") from None
    unique: dict[tuple[socket.AddressFamily, tuple[Any, ...]], None] = dict.fromkeys(
        (family, address) for family, _, _, _, address in found
    )
    if host == "localhost":  # many systems name ::1 there without having it
        return [one for one in unique if one[0] == socket.AF_INET] or list(unique)
    return list(unique)


def _bind(family: socket.AddressFamily, address: tuple[Any, ...], *, patience_s: float) -> socket.socket:
    deadline = time.monotonic() + patience_s
    while True:
        one = socket.socket(family, socket.SOCK_STREAM)
        try:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind(address)
            one.listen(BACKLOG)
            return one
        except OSError as error:
            one.close()
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise _refusal(error, f"{address[0]} port {address[1]}") from None
        time.sleep(_RETRY_S)


def bind_unix(path: Path, *, patience_s: float = 0.0) -> list[socket.socket]:
    """One listening unix socket (mode 0600); a stale file of an ended server is replaced. `patience_s` as in `bind`.

    Raises:
        ConfigError: a live server has it, or the path can't be used.
    """
    deadline = time.monotonic() + patience_s
    while True:
        one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _unlink_stale(path)
            before = os.umask(0o177)
            try:
                one.bind(str(path))
            finally:
                os.umask(before)
            one.listen(BACKLOG)
            return [one]
        except OSError as error:
            one.close()
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise _refusal(error, str(path)) from None
        time.sleep(_RETRY_S)


def _unlink_stale(path: Path) -> None:
    """Remove a socket on which nobody listens; anything else that is there is in use."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return
    if stat.S_ISSOCK(status.st_mode):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()
                return
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _refusal(error: OSError, where: str) -> ConfigError:
    if error.errno == errno.EADDRINUSE:
        return ConfigError(f"Can't listen on {where}: it is in use already.")
    return ConfigError(f"Can't listen on {where}: {error.strerror or error}.")


def name(one: socket.socket, *, scheme: str = "http") -> str:
    """How people write the address of a listening socket."""
    address = one.getsockname()
    if isinstance(address, str):
        return address
    host = f"[{address[0]}]" if one.family == socket.AF_INET6 else address[0]
    return f"{scheme}://{host}:{address[1]}"
