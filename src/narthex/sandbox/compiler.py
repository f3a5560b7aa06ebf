"""The compiler process: compiles one schema after the other, each under a limit of time; its memory is limited as a
whole.

Run as `python -m narthex.sandbox.compiler --notify FD` with `SandboxSettings` on standard input.
"""

import asyncio
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from narthex.core.errors import InvalidRequest
from narthex.ipc import logs
from narthex.ipc.child import Lifeline, run_until_stopped
from narthex.ipc.server import Peer, Server
from narthex.sandbox.grammar import rule
from narthex.sandbox.limits import run_job
from narthex.sandbox.protocol import (
    COMPILER,
    Check,
    Checked,
    Compile,
    Compiled,
    SandboxSettings,
    job_file,
    job_name,
)
from narthex.sandbox.schema_text import SchemaRefused
from narthex.sandbox.validity import fault

T = TypeVar("T", Compiled, Checked)

GRACE_S = 0.5
"""What a job may take beyond its limit before the process gives up on itself."""


async def serve(settings: SandboxSettings, lifeline: Lifeline, stop: asyncio.Event) -> None:
    """Serve jobs until told to stop."""
    note = job_file(Path(settings.socket))

    def run(name: str, job: Callable[[], T], refused: type[T]) -> T:
        note.write_text(name)
        try:
            return run_job(job, limit_s=settings.time_limit_s, grace_s=GRACE_S, what="schema", param=None)
        except SchemaRefused as error:
            return refused(refusal=error.message, at=error.at)
        except InvalidRequest as error:
            return refused(refusal=error.message)

    async def on_compile(_: Peer, payload: msgspec.Raw) -> Any:
        schema = msgspec.msgpack.decode(payload, type=Compile).schema
        return run(job_name(schema), lambda: Compiled(rule=rule(schema)), Compiled)

    async def on_check(_: Peer, payload: msgspec.Raw) -> Any:
        job = msgspec.msgpack.decode(payload, type=Check)
        name = job_name(job.schema, job.text)
        return run(name, lambda: Checked(fault=fault(job.schema, job.text)), Checked)

    server = Server(Path(settings.socket), {"compile": on_compile, "check": on_check})
    await server.start()
    lifeline.ready()
    await stop.wait()
    await server.aclose()


def main() -> None:
    """Run as a child of the supervisor."""
    lifeline = Lifeline.from_argv()
    settings = lifeline.settings(SandboxSettings)
    logs.configure(settings.log_format, process=COMPILER)
    limit = settings.memory_limit_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    lifeline.watch()
    run_until_stopped(lambda stop: serve(settings, lifeline, stop))


if __name__ == "__main__":
    main()
