"""The process of a worker: uvicorn on the inherited sockets, and the order of its end."""

import asyncio
import contextlib
import gc
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import structlog
import uvicorn
import uvloop
from typing_extensions import override

from narthex.app import tls
from narthex.app.control import control_server
from narthex.app.memory import Keeper, trim_of_libc
from narthex.app.worker import Worker, open_worker
from narthex.core.errors import NarthexError
from narthex.http.protocol import Protocol
from narthex.http.worker import WorkerSettings
from narthex.ipc import logs
from narthex.ipc.child import Lifeline, listening_fds, run_until_stopped
from narthex.ipc.tasks import TaskSet

log = structlog.get_logger("narthex.app")


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling: the worker drains first."""

    @contextlib.contextmanager
    @override
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


def _config(settings: WorkerSettings, worker: Worker) -> uvicorn.Config:
    return uvicorn.Config(
        worker,
        http=Protocol,
        loop="none",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=False,  # each snapshot has its own
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=2,
        backlog=2048,
        h11_max_incomplete_event_size=None,
    )


async def _serve(settings: WorkerSettings, lifeline: Lifeline, stop: asyncio.Event) -> None:
    sockets = [socket.socket(fileno=fd) for fd in listening_fds()]
    async with open_worker(settings) as worker:
        config = _config(settings, worker)
        tls.check(settings)
        config.load()

        def committed(now: WorkerSettings) -> None:
            if config.ssl is not None:
                tls.renew(config.ssl, now)
            log.info("reloaded", names=len(now.names), models=len(now.models), providers=len(now.providers))

        control = control_server(Path(settings.control_socket), worker, committed=committed)
        server = _Server(config)
        serving = asyncio.ensure_future(server.serve(sockets=sockets))
        # The supervisor spreads reloads; without a handler the signal would end us.
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, log.info, "SIGHUP is for the supervisor")
        await control.start()
        _spare_the_collector()
        beside = TaskSet()
        beside.start(Keeper(running=lambda: worker.running, trim=trim_of_libc()).watch())
        lifeline.ready()
        await stop.wait()
        log.info("draining", running=worker.running)
        await worker.drained()
        await control.aclose()
        await beside.aclose()
        server.should_exit = True
        await serving


def _spare_the_collector() -> None:
    """What is there now stays: the garbage collector need not look at it again."""
    gc.collect()
    gc.freeze()


def main() -> int:
    """Run as a child of the supervisor."""
    lifeline = Lifeline.from_argv()
    settings = lifeline.settings(WorkerSettings)
    logs.configure(settings.log_format, process=settings.name)
    lifeline.watch()
    try:
        run_until_stopped(lambda stop: _serve(settings, lifeline, stop), loop_factory=uvloop.new_event_loop)
    except NarthexError as error:
        lifeline.failed(error.message)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
