"""The compiler process: compiles one schema after the other, each under a limit of time; its memory is limited as a
whole.

Run as `python -m narthex.sandbox.compiler --notify FD` with `SandboxSettings` on standard input.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from narthex.core.errors import InvalidRequest
from narthex.ipc.server import Peer
from narthex.sandbox.child import Operations, run
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


def operations(settings: SandboxSettings) -> Operations:
    """The jobs that it does."""
    note = job_file(Path(settings.socket))

    def done(name: str, job: Callable[[], T], refused: type[T]) -> T:
        note.write_text(name)
        try:
            return run_job(job, limit_s=settings.time_limit_s, grace_s=GRACE_S, what="schema", param=None)
        except SchemaRefused as error:
            return refused(refusal=error.message, at=error.at)
        except InvalidRequest as error:
            return refused(refusal=error.message)

    async def on_compile(_: Peer, payload: msgspec.Raw) -> Any:
        schema = msgspec.msgpack.decode(payload, type=Compile).schema
        return done(job_name(schema), lambda: Compiled(rule=rule(schema)), Compiled)

    async def on_check(_: Peer, payload: msgspec.Raw) -> Any:
        job = msgspec.msgpack.decode(payload, type=Check)
        name = job_name(job.schema, job.text)
        return done(name, lambda: Checked(fault=fault(job.schema, job.text)), Checked)

    return {"compile": on_compile, "check": on_check}


if __name__ == "__main__":
    run(COMPILER, operations)
