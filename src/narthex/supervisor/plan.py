"""What a supervisor is to run: the data that `narthex serve` hands over, and the names both sides derive from it.

Rule: cheap to import, as are `datafolder` and `launch`: the command line pays for it with every command.
"""

import os
from pathlib import Path
from typing import Literal

import msgspec

from narthex.core.errors import ConfigError

SOCKET_PATH_BYTES = 103
"""Longest path that every kernel takes for a unix socket."""


class Stamp(msgspec.Struct, frozen=True, kw_only=True):
    """Which program wrote a data folder. `schema` grows whenever an older program could no longer read the folder."""

    schema: int
    program: str


class ChildSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One process to keep: how it starts, when it starts and how long it may take.

    `settings` is a JSON value, written as one line to the child's standard input. A `listener` inherits the listening
    sockets, is drained first and follows reloads. `memory_bytes` counts against the plan's budget in the group
    `engines`.
    """

    name: str
    module: str
    settings: msgspec.Raw = msgspec.Raw(b"null")
    start: Literal["always", "on_demand"] = "always"
    memory_bytes: int = 0
    group: str = ""
    listener: bool = False
    stop_timeout_s: float = 5.0
    start_timeout_s: float = 60.0


class Replan(msgspec.Struct, frozen=True, kw_only=True):
    """How the plan is made anew: a module that reads `settings` from standard input and writes a `Replanned`."""

    module: str
    settings: msgspec.Raw


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything one supervisor runs.

    Listens on every address of `host` (one or several) at `port` (0: a free one), or on the unix socket `uds` instead.
    `memory_budget_bytes` 0 means no limit. `facets`: each setting by name with a digest of its value, by which two
    plans are told apart.
    """

    data_dir: str
    run_dir: str
    version: Stamp
    children: list[ChildSpec]
    host: str | list[str] = "127.0.0.1"
    port: int = 8000
    uds: str | None = None
    scheme: str = "http"  # what the workers speak there; for the log only
    drain_timeout_s: float = 30.0
    memory_budget_bytes: int = 0
    log_format: Literal["auto", "json", "console"] = "auto"
    replan: Replan | None = None
    facets: dict[str, str] = {}

    @property
    def hosts(self) -> list[str]:
        """The hosts to listen on, whether one or several were given."""
        return [self.host] if isinstance(self.host, str) else self.host


class Replanned(msgspec.Struct, frozen=True, kw_only=True):
    """A plan made anew, or the faults that stand in its way, one text for each.

    `needs_restart`: settings that differ and can't follow while the server runs, by name.
    """

    plan: Plan | None = None
    needs_restart: list[str] = []
    faults: list[str] = []


def json_line(value: object) -> bytes:
    """A value as one line of JSON, whatever line breaks its raw parts were written with."""
    return msgspec.json.format(msgspec.json.encode(value), indent=-1) + b"\n"


def supervisor_socket(run_dir: Path) -> Path:
    """Where a supervisor answers `ensure`, `stop`, `status`, `reload` and `drain`."""
    return run_dir / "supervisor.sock"


def control_socket(run_dir: Path, child: str) -> Path:
    """Where the child of this name answers its supervisor: `retire`, or what a worker is asked in a reload."""
    return run_dir / f"{child.replace('/', '-')}.ctl.sock"


def check_socket_paths(plan: Plan) -> None:
    """Return if every child can have its sockets.

    Raises:
        ConfigError: a child's name is too long.
    """
    for spec in plan.children:
        path = os.fsencode(control_socket(Path(plan.run_dir), spec.name))
        if len(path) > SOCKET_PATH_BYTES:
            raise ConfigError(f"The name {spec.name} is too long: its unix socket would need {len(path)} bytes.")
