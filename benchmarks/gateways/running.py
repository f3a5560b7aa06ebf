"""The upstream and the gateways as processes, and one measurement of one of them."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
from gateways.load import Load, Order
from gateways.processes import on_core, proportional_mb, tree
from gateways.results import DIRECT
from gateways.sides import Launch, Place

HERE = Path(__file__).parent.parent
LOAD_CORE, GATEWAY_CORE = 0, 1
START_S, STOP_S = 90.0, 15.0


class NotStarted(Exception):
    """A gateway does not answer as it should; the message is the end of its log."""


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A process that answers. Without a `pid` it is the upstream itself."""

    name: str
    port: int
    headers: dict[str, str]
    start_s: float = 0.0
    pid: int | None = None

    def pids(self) -> list[int]:
        return tree(self.pid) if self.pid else []

    def memory_mb(self) -> float:
        return proportional_mb(self.pids())

    def stand_still(self) -> None:
        """Keep what it does besides, or still has to do, out of the others' figures."""
        signalled(self.pids(), signal.SIGSTOP)

    def go_on(self) -> None:
        signalled(self.pids(), signal.SIGCONT)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def upstream() -> Iterator[Running]:
    """The server of the models, on the core of the load."""
    port = free_port()
    with on_core(LOAD_CORE):
        process = subprocess.Popen([sys.executable, "-m", "gateways.upstream", str(port)], cwd=HERE)
    try:
        wait(lambda: asked(port, {}, b"{}") == 200, process)
        yield Running(name=DIRECT, port=port, headers={})
    finally:
        end(process)


@contextmanager
def gateway(
    name: str, *, launch: Callable[[Place], Launch], folder: Path, upstream: int, body: bytes
) -> Iterator[Running]:
    """A gateway on its core, from its start until it has answered `body`, to its end.

    Raises:
        NotStarted: it did not answer 200.
    """
    folder.mkdir()
    place = Place(port=free_port(), second_port=free_port(), upstream=upstream, folder=folder)
    made = launch(place)
    log = folder / "log"
    began = time.monotonic()
    with on_core(GATEWAY_CORE), log.open("wb") as sink:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("NARTHEX_")}
        process = subprocess.Popen(
            made.command, stdout=sink, stderr=sink, cwd=HERE, env={**environment, **made.environment}
        )
    try:
        try:
            wait(lambda: asked(place.port, made.headers(), body) == 200, process)
        except TimeoutError as fault:
            raise NotStarted(log.read_text(errors="replace")[-500:]) from fault
        start_s = time.monotonic() - began
        yield Running(name=name, port=place.port, headers=made.headers(), start_s=start_s, pid=process.pid)
    finally:
        end(process)


def wait(done: Callable[[], bool], process: "subprocess.Popen[bytes]") -> None:
    """Until it is done; a `TimeoutError` after `START_S`, or when the process has ended."""
    deadline = time.monotonic() + START_S
    while not done():
        if process.poll() is not None or time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.01)


def asked(port: int, headers: dict[str, str], body: bytes) -> int:
    """The status of a chat; 0 while nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json", **headers})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def end(process: "subprocess.Popen[bytes]") -> None:
    """SIGTERM, and SIGKILL to whatever of its processes outlives that."""
    if process.poll() is not None:
        return
    pids = tree(process.pid)
    signalled(pids, signal.SIGCONT)
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        signalled(pids, signal.SIGKILL)
        process.wait()


def signalled(pids: Sequence[int], what: signal.Signals) -> None:
    """Tell those that are still there."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, what)


def measure(side: Running, *, body: bytes, warm_up: bytes, connections: int, seconds: float, limit_s: float) -> Load:
    """One measurement, from a process of its own on the load's core."""
    order = Order(
        port=side.port,
        headers=side.headers,
        body=body,
        warm_up=warm_up,
        connections=connections,
        seconds=seconds,
        limit_s=limit_s,
        watch=side.pids(),
        core=GATEWAY_CORE,
    )
    with on_core(LOAD_CORE):
        command = [sys.executable, "-m", "gateways.load"]
        done = subprocess.run(command, input=msgspec.json.encode(order), stdout=subprocess.PIPE, cwd=HERE, check=True)
    return msgspec.json.decode(done.stdout, type=Load)
