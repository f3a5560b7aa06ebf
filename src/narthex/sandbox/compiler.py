"""The compiler process: compiles constraints, each in a process of its own that it forks, and holds texts against them,
one after the other, each under a limit of time; its memory is limited as a whole.

Rule: what a constraint does to whoever compiles it, it does to nobody else. One that takes this process along would let
the next in line wait until it is there again, longer each time.

Run as `python -m narthex.sandbox.compiler --notify FD` with `SandboxSettings` on standard input.
"""

import asyncio
import traceback
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from narthex.core.constrained import Constraint
from narthex.core.errors import InvalidRequest
from narthex.ipc.server import Peer
from narthex.sandbox.apart import AT_ONCE, Apart
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

log = structlog.get_logger(__name__)

GRACE_S = 0.5
"""What a check may take beyond its limit before the process gives up on itself."""


class _Outcome(msgspec.Struct):
    """What a process that compiled tells; `broken`: by a fault of ours, with its traceback."""

    compiled: Compiled | None = None
    broken: str = ""


_told: Final = msgspec.json.Decoder(_Outcome).decode


def operations(settings: SandboxSettings) -> Operations:
    """The jobs that it does."""
    note = job_file(Path(settings.socket))
    limits: dict[str, Any] = {"limit_s": settings.time_limit_s, "memory_bytes": settings.memory_limit_bytes}
    turns = asyncio.Semaphore(AT_ONCE)
    apart = {kind: Apart(what=name, param="", turns=turns, **limits) for kind, name in NAMES.items()}

    async def on_compile(_: Peer, payload: msgspec.Raw) -> Any:
        wanted = msgspec.msgpack.decode(payload, type=Compile).constraint
        try:
            outcome = _told(await apart[type(wanted)].run(lambda: _compiled(wanted)))
        except InvalidRequest as error:
            return Compiled(refusal=error.message)
        if outcome.compiled is None:
            log.error("a constraint was not compiled", traceback=outcome.broken)
            raise RuntimeError("A constraint was not compiled.")
        return outcome.compiled

    async def on_check(_: Peer, payload: msgspec.Raw) -> Any:
        job = msgspec.msgpack.decode(payload, type=Check)
        wanted, what = job.constraint, NAMES[type(job.constraint)]
        note.write_text(job_name(wanted, job.text))
        try:
            return run_job(
                lambda: Checked(fault=fault_of(wanted, job.text, cut=job.cut)),
                limit_s=settings.time_limit_s,
                grace_s=GRACE_S,
                what=what,
                param=None,
            )
        except SchemaRefused as error:
            return Checked(refusal=error.message, at=error.at)
        except InvalidRequest as error:
            return Checked(refusal=error.message)

    return {"compile": on_compile, "check": on_check}


def _compiled(wanted: Constraint) -> str:
    """In the other process."""
    try:
        outcome = _Outcome(compiled=Compiled(rule=rule_of(wanted)))
    except SchemaRefused as error:
        outcome = _Outcome(compiled=Compiled(refusal=error.message, at=error.at))
    except (MemoryError, RecursionError):
        raise
    except Exception:  # noqa: BLE001 - the edge of a process: its caller has to hear of it
        outcome = _Outcome(broken=traceback.format_exc())
    return msgspec.json.encode(outcome).decode()


if __name__ == "__main__":
    run(COMPILER, operations)
