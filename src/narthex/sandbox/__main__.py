"""The sandbox process: renders one template after the other, each under a limit of time; its memory is limited as a
whole.
"""

import asyncio
import resource
from pathlib import Path
from typing import Any

import msgspec

from narthex.ipc import logs
from narthex.ipc.child import Lifeline, run_until_stopped
from narthex.ipc.server import Peer, Server
from narthex.sandbox.limits import run_job
from narthex.sandbox.protocol import NAME, Render, SandboxSettings
from narthex.sandbox.templates import render


async def serve(settings: SandboxSettings, lifeline: Lifeline, stop: asyncio.Event) -> None:
    """Serve jobs until told to stop."""

    async def on_render(_: Peer, payload: msgspec.Raw) -> Any:
        job = msgspec.msgpack.decode(payload, type=Render)
        return run_job(lambda: render(job.template, job.variables), limit_s=settings.time_limit_s, what="chat template")

    server = Server(Path(settings.socket), {"render": on_render})
    await server.start()
    lifeline.ready()
    await stop.wait()
    await server.aclose()


def main() -> None:
    """Run as a child of the supervisor."""
    lifeline = Lifeline.from_argv()
    settings = lifeline.settings(SandboxSettings)
    logs.configure(settings.log_format, process=NAME)
    limit = settings.memory_limit_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    lifeline.watch()
    run_until_stopped(lambda stop: serve(settings, lifeline, stop))


if __name__ == "__main__":
    main()
