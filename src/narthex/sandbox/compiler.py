"""The compiler process: compiles one constraint after the other, each under a limit of time; its memory is limited as a
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
from narthex.sandbox.forms import fault_of, rule_of
from narthex.sandbox.limits import run_job
from narthex.sandbox.protocol import (
    COMPILER,
    NAMES,
    Check,
    Checked,
    Compile,
    Compiled,
    SandboxSettings,
    job_file,
    job_name,
)
from narthex.sandbox.schema_text import SchemaRefused

T = TypeVar("T", Compiled, Checked)

GRACE_S = 0.5
"""What a job may take beyond its limit before the process gives up on itself."""


def operations(settings: SandboxSettings) -> Operations:
    """The jobs that it does."""
    note = job_file(Path(settings.socket))

    def done(name: str, what: str, job: Callable[[], T], refused: type[T]) -> T:
        note.write_text(name)
        try:
            return run_job(job, limit_s=settings.time_limit_s, grace_s=GRACE_S, what=what, param=None)
        except SchemaRefused as error:
            return refused(refusal=error.message, at=error.at)
        except InvalidRequest as error:
            return refused(refusal=error.message)

    async def on_compile(_: Peer, payload: msgspec.Raw) -> Any:
        wanted = msgspec.msgpack.decode(payload, type=Compile).constraint
        return done(job_name(wanted), NAMES[type(wanted)], lambda: Compiled(rule=rule_of(wanted)), Compiled)

    async def on_check(_: Peer, payload: msgspec.Raw) -> Any:
        job = msgspec.msgpack.decode(payload, type=Check)
        wanted, name = job.constraint, job_name(job.constraint, job.text)
        return done(name, NAMES[type(wanted)], lambda: Checked(fault=fault_of(wanted, job.text, cut=job.cut)), Checked)

    return {"compile": on_compile, "check": on_check}


if __name__ == "__main__":
    run(COMPILER, operations)
