"""A real server for end-to-end tests: `narthex serve` in a process of its own. The fixtures are in `server_fixture`."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx2
import yaml

from narthex.core.keys import EVERYTHING, Grants, NewKey
from narthex.storage.sqlite.control import open_control

CHAT_MODEL = "smollm2-135m-instruct"
EMBEDDING_MODEL = "all-minilm-l6-v2"
SLASHED = "house/smollm2"
"""The chat model under a public name with a slash in it."""

START_S, STOP_S = 120.0, 60.0

StartServer = Callable[..., AbstractContextManager["Server"]]


class Server:
    """A running server. `base_url` ends in `/v1`; `url` is the bare origin."""

    def __init__(self, data: Path, process: "subprocess.Popen[bytes]", *, log: Path) -> None:
        self.data = data
        self.process = process
        self.log_file = log
        self.url = ""
        self.listeners: list[Callable[[httpx2.Response], None]] = []

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    @property
    def pid(self) -> int:
        """Of the supervisor."""
        return self.process.pid

    @property
    def admin_key(self) -> str:
        return (self.data / "admin.key").read_text().strip()

    def log_lines(self) -> list[dict[str, Any]]:
        """What it has logged so far."""
        lines = self.log_file.read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def key(
        self,
        *,
        surfaces: tuple[str, ...] = (EVERYTHING,),
        models: tuple[str, ...] = (EVERYTHING,),
        name: str = "test",
        **options: Any,
    ) -> str:
        """A new key's secret. `options`: further fields of `NewKey`."""
        grants = Grants(surfaces=frozenset(surfaces), models=models, collections=(EVERYTHING,))
        return asyncio.run(_created(self.data, NewKey(name=name, grants=grants, **options)))

    def revoke(self, reference: str) -> None:
        """Revoke the key with this name, id or prefix."""
        asyncio.run(_revoked(self.data, reference))

    def http(self, key: str | None = None, **options: Any) -> httpx2.Client:
        """A plain HTTP client; the caller closes it. Without `key`: the admin's. `listeners` hear the answers."""
        headers = {"authorization": f"Bearer {key or self.admin_key}", **options.pop("headers", {})}
        hooks = {"response": self.listeners}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=120, event_hooks=hooks, **options)


async def _created(data: Path, new: NewKey) -> str:
    store = await open_control(data / "control.db", clock=_now_ms, create=False)
    try:
        _, secret = await store.keys.create(new, within=Grants.everything())
        return secret.reveal()
    finally:
        await store.aclose()


async def _revoked(data: Path, reference: str) -> None:
    store = await open_control(data / "control.db", clock=_now_ms, create=False)
    try:
        await store.keys.revoke(reference)
    finally:
        await store.aclose()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def install_models(models_dir: Path, data: Path, names: tuple[str, ...]) -> None:
    """Give a data folder its models: as links where the file system can, for nobody writes into them."""

    def link(source: str, target: str) -> str:
        try:
            os.link(source, target)
        except OSError:
            shutil.copy2(source, target)
        return target

    for name in names:
        target = data / "models" / name
        shutil.copytree(models_dir / name, target, copy_function=link, ignore=shutil.ignore_patterns(".*"))


@contextlib.contextmanager
def serving(
    data: Path,
    *,
    config: dict[str, Any] | None = None,
    workers: int = 1,
    exit_code: int = 0,
    verify: ssl.SSLContext | bool = True,
) -> Iterator[Server]:
    """A server on a prepared data folder, up and ready. SIGTERM ends it, and it must end with `exit_code`.

    `verify`: whom to trust, where its settings make it serve over TLS.
    """
    command = [sys.executable, "-m", "narthex", "serve", "--data", str(data), "--port", "0", "--workers", str(workers)]
    if config is not None:
        file = data.parent / "narthex-test.yaml"
        file.write_text(yaml.safe_dump(config))
        command += ["--config", str(file)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NARTHEX_")}
    if "speech" not in (config or {}):  # what is installed on this machine is to change nothing
        environment["NARTHEX_SPEECH__ENGINE"] = "off"
    log = data.parent / "serve.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(command, stderr=errors, cwd=data.parent, env=environment)
    server = Server(data, process, log=log)
    try:
        _wait_ready(server, verify)
        yield server
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_S) == exit_code, server.log_file.read_text(errors="replace")[-4000:]
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _wait_ready(server: Server, verify: ssl.SSLContext | bool) -> None:
    """Until it listens, answers `/readyz`, and every child that starts with it is ready."""
    deadline = time.monotonic() + START_S
    while not _is_ready(server, verify):
        if server.process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"The server did not start:\n{server.log_file.read_text(errors='replace')[-4000:]}")
        time.sleep(0.05)


def _is_ready(server: Server, verify: ssl.SSLContext | bool) -> bool:
    states: dict[str, str] = {}
    for line in server.log_lines():
        if line["event"] == "listening":
            server.url = line["address"]
        elif line["event"] == "child":
            states[line["child"]] = line["state"]
    if "worker-0" not in states or set(states.values()) != {"ready"}:
        return False
    return httpx2.get(f"{server.url}/readyz", verify=verify).status_code == 200
