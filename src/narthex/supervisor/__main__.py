"""`python -m narthex.supervisor --plan FD [--lock FD]`: run the plan that the descriptor holds as one JSON line.

Exit codes: 0 ended as asked, 1 no worker could be started, 2 refused to start (folder or address in use, wrong plan).
"""

import argparse
import asyncio
import contextlib
import os
import socket
import sys
from pathlib import Path

import msgspec
import structlog

from narthex.core.errors import ConfigError
from narthex.ipc import logs
from narthex.supervisor import datafolder, listen
from narthex.supervisor.plan import Plan, check_socket_paths, supervisor_socket
from narthex.supervisor.service import Supervisor

log = structlog.get_logger(__name__)

_ORPHANS_S = 5.0
"""How long the children of a supervisor that was killed may hold on to its port."""


def main() -> int:
    """Run, and return the exit code."""
    parser = argparse.ArgumentParser(prog="narthex.supervisor")
    parser.add_argument("--plan", type=int, required=True, metavar="FD")
    parser.add_argument("--lock", type=int, metavar="FD")
    arguments = parser.parse_args()
    try:
        plan = _read(arguments.plan)
        logs.configure(plan.log_format, process="supervisor")
        data = Path(plan.data_dir)
        held = datafolder.lock(data) if arguments.lock is None else datafolder.adopt(arguments.lock, data)
        with held:
            return _serve(plan)
    except ConfigError as error:
        sys.stderr.write(f"narthex: {error.message}\n")
        return 2


def _read(fd: int) -> Plan:
    try:
        with os.fdopen(fd, "rb") as file:
            return msgspec.json.decode(file.readline(), type=Plan)
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(f"The plan can't be read: {error}.") from None


def _serve(plan: Plan) -> int:
    data, run_dir = Path(plan.data_dir), Path(plan.run_dir)
    datafolder.stamp(data, plan.version)
    check_socket_paths(plan)
    killed = supervisor_socket(run_dir).exists()  # who ends in peace removes it
    for stale in run_dir.glob("*.sock"):
        if stale.is_dir():
            raise ConfigError(f"{stale} is a folder where a socket has to be; move it away and start again.")
        stale.unlink()
    with contextlib.ExitStack() as stack:
        sockets = _listen(plan, patience_s=_ORPHANS_S if killed else 0.0)
        for one in sockets:
            stack.enter_context(one)
            log.info("listening", address=listen.name(one, scheme=plan.scheme))
        failure = asyncio.run(_run(plan, sockets))
    if plan.uds is not None:
        Path(plan.uds).unlink(missing_ok=True)
    datafolder.discard_run_dir(data)
    if failure is not None:
        sys.stderr.write(f"narthex: {failure}\n")
        return 1
    return 0


async def _run(plan: Plan, sockets: list[socket.socket]) -> str | None:
    supervisor = Supervisor(plan, sockets)
    await supervisor.run()
    return supervisor.start_failure


def _listen(plan: Plan, *, patience_s: float) -> list[socket.socket]:
    if plan.uds is not None:
        return listen.bind_unix(Path(plan.uds), patience_s=patience_s)
    return listen.bind(plan.hosts, plan.port, patience_s=patience_s)


if __name__ == "__main__":
    sys.exit(main())
