"""The life of a sandbox process: its memory is limited as a whole, its jobs come over a socket, one after the other."""

import asyncio
import resource
from collections.abc import Callable, Mapping
from pathlib import Path

from narthex.ipc import logs
from narthex.ipc.child import Lifeline, run_until_stopped
from narthex.ipc.server import Operation, Server
from narthex.sandbox.protocol import SandboxSettings

Operations = Mapping[str, Operation]


def run(name: str, operations: Callable[[SandboxSettings], Operations]) -> None:
    """Run as a child of the supervisor, with `SandboxSettings` on standard input, until told to stop."""
    lifeline = Lifeline.from_argv()
    settings = lifeline.settings(SandboxSettings)
    logs.configure(settings.log_format, process=name)
    limit = settings.memory_limit_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    lifeline.watch()

    async def serve(stop: asyncio.Event) -> None:
        server = Server(Path(settings.socket), operations(settings))
        await server.start()
        lifeline.ready()
        await stop.wait()
        await server.aclose()

    run_until_stopped(serve)
