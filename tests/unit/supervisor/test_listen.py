"""The listening sockets, on real addresses."""

import socket
import threading
from pathlib import Path

import pytest

from narthex.core.errors import ConfigError
from narthex.supervisor import listen


def test_a_free_port_that_accepts() -> None:
    (one,) = listen.bind(["127.0.0.1"], 0)
    with one, socket.create_connection(one.getsockname()):
        assert listen.name(one) == f"http://127.0.0.1:{one.getsockname()[1]}"
        assert not one.get_inheritable()


def test_several_hosts_share_one_free_port() -> None:
    first, second = listen.bind(["127.0.0.1", "127.0.0.2"], 0)
    with first, second:
        assert first.getsockname()[1] == second.getsockname()[1]


def test_localhost_is_the_old_address() -> None:
    (one,) = listen.bind(["localhost"], 0)
    with one:
        assert one.family == socket.AF_INET


def test_the_name_of_a_newer_address_has_brackets() -> None:
    try:
        (one,) = listen.bind(["::1"], 0)
    except ConfigError:
        pytest.skip("this machine has no IPv6")
    with one:
        assert listen.name(one) == f"http://[::1]:{one.getsockname()[1]}"


def test_a_port_in_use_is_told_and_leaves_nothing_open() -> None:
    (one,) = listen.bind(["127.0.0.1"], 0)
    with one:
        port = one.getsockname()[1]
        with pytest.raises(ConfigError, match=f"Can't listen on 127.0.0.1 port {port}: it is in use already."):
            listen.bind(["127.0.0.2", "127.0.0.1"], port)
        (again,) = listen.bind(["127.0.0.2"], port)
        again.close()


def test_patience_outlasts_the_last_holder() -> None:
    (one,) = listen.bind(["127.0.0.1"], 0)
    port = one.getsockname()[1]
    leaving = threading.Timer(0.2, one.close)
    leaving.start()
    (again,) = listen.bind(["127.0.0.1"], port, patience_s=10)
    again.close()
    leaving.join()


@pytest.mark.parametrize("host", ["no such host", "192.0.2.1"])
def test_an_address_that_is_not_ours(host: str) -> None:
    with pytest.raises(ConfigError, match=f"Can't listen on {host}"):
        listen.bind([host], 0)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("s")


def test_a_unix_socket_is_for_this_user_only(path: Path) -> None:
    (one,) = listen.bind_unix(path)
    with one:
        assert path.stat().st_mode & 0o777 == 0o600
        assert listen.name(one) == "s"
        with pytest.raises(ConfigError, match="Can't listen on s: it is in use already"):
            listen.bind_unix(path)


def test_a_stale_unix_socket_is_replaced(path: Path) -> None:
    listen.bind_unix(path)[0].close()
    (one,) = listen.bind_unix(path)
    one.close()


def test_a_file_is_never_replaced(path: Path) -> None:
    path.write_text("mine")
    with pytest.raises(ConfigError, match="in use"):
        listen.bind_unix(path)
    assert path.read_text() == "mine"


def test_patience_outlasts_a_unix_server(path: Path) -> None:
    (one,) = listen.bind_unix(path)
    leaving = threading.Timer(0.2, one.close)
    leaving.start()
    (again,) = listen.bind_unix(path, patience_s=10)
    again.close()
    leaving.join()


def test_a_path_that_cannot_be(path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        listen.bind_unix(path / "none" / "s")
