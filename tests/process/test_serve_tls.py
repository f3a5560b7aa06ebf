"""Serving over TLS: `--tls-cert` and `--tls-key`, or the same in the settings."""

import ssl
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from tests.server_process import EMBEDDING_MODEL, StartServer

pytestmark = pytest.mark.patient

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]

LOOPBACK = Path(__file__).parents[1] / "unit" / "upstream" / "loopback.pem"
RENEWED = Path(__file__).parent / "renewed.pem"


def refused(data: Path, *options: str) -> str:
    """What `serve` says when it refuses its options."""
    command = [sys.executable, "-m", "narthex", "serve", "--data", str(data), *options]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2, ended.stderr
    return ended.stderr


def test_refuses_half_a_pair(tmp_path: Path) -> None:
    assert "--tls-key" in refused(tmp_path / "data", "--tls-cert", str(LOOPBACK))
    assert not (tmp_path / "data").exists()


def test_refuses_a_missing_file(tmp_path: Path) -> None:
    missing = str(tmp_path / "no.pem")
    assert "no.pem" in refused(tmp_path / "data", "--tls-cert", missing, "--tls-key", missing)


@pytest.mark.usefixtures("models_dir")
def test_answers_over_tls_only(start_server: StartServer) -> None:
    trusted = ssl.create_default_context(cafile=LOOPBACK)
    tls = {"cert": str(LOOPBACK), "key": str(LOOPBACK)}
    config = {"http": {"tls": tls}, "engine": {"default": None}}
    with start_server(config, models=(EMBEDDING_MODEL,), verify=trusted) as server:
        assert server.url.startswith("https://")
        body = {"model": EMBEDDING_MODEL, "input": "hello"}
        headers = {"authorization": f"Bearer {server.admin_key}"}
        answer = httpx2.post(f"{server.base_url}/embeddings", json=body, headers=headers, verify=trusted)
        assert answer.status_code == 200
        with pytest.raises(httpx2.TransportError):
            httpx2.get(server.url.replace("https:", "http:") + "/healthz")


@pytest.mark.usefixtures("models_dir")
def test_a_renewed_certificate_is_taken_up_by_a_reload(start_server: StartServer, tmp_path: Path) -> None:
    trusted = ssl.create_default_context(cafile=LOOPBACK)
    pem = tmp_path / "current.pem"
    pem.write_bytes(LOOPBACK.read_bytes())
    config = {
        "http": {"tls": {"cert": str(pem), "key": str(pem)}},
        "engine": {"default": None},
        "embedder": {"default": None},
    }
    with start_server(config, models=(), verify=trusted) as server:
        headers = {"authorization": f"Bearer {server.admin_key}"}

        def shown() -> str:
            return ssl.get_server_certificate(("127.0.0.1", int(server.url.rpartition(":")[2])))

        def reload() -> int:
            return httpx2.post(f"{server.url}/admin/reload", headers=headers, verify=trusted).status_code

        before = shown()
        pem.write_text("no certificate")
        assert reload() == 400
        assert shown() == before
        pem.write_bytes(RENEWED.read_bytes())
        assert reload() == 200
        assert shown() != before
