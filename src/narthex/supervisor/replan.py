"""Has the plan made anew, in a process of its own: this one reads no settings and holds no code that could."""

import asyncio
import contextlib
import os
import signal
import sys

import msgspec

from narthex.core.errors import ConfigError
from narthex.supervisor.plan import Plan, Replan, Replanned, json_line

_PATIENCE_S = 60.0


async def replanned(replan: Replan | None) -> Replanned:
    """The plan as the settings are now, or their faults.

    Raises:
        ConfigError: it could not be made; the process said nothing that can be read.
    """
    if replan is None:
        raise ConfigError("This server was started without a way to read its settings again.")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        replan.module,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C at the terminal is for the supervisor
    )
    try:
        async with asyncio.timeout(_PATIENCE_S):
            answer, _ = await process.communicate(json_line(replan.settings))
    except TimeoutError:
        raise ConfigError(f"The settings could not be read within {_PATIENCE_S:g} s.") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    try:
        return msgspec.json.decode(answer, type=Replanned)
    except msgspec.MsgspecError:
        raise ConfigError(f"The settings could not be read: exit code {process.returncode}.") from None


def changed(before: Plan, after: Plan) -> list[str]:
    """The names of the settings that differ, by their order."""
    names = before.facets.keys() | after.facets.keys()
    return sorted(name for name in names if before.facets.get(name) != after.facets.get(name))
