"""The settings of a running server read anew: what it can follow, what must wait for a restart, and the plan for it.

Rule: what can't change while the server runs keeps its running value, is named, and everything else is applied.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from narthex.core.errors import NarthexError
from narthex.serving.machine import Machine
from narthex.serving.names import faults_across, known_here, not_fetched
from narthex.serving.planner import Planner
from narthex.settings import Invalid, Reading, Settings, Tls, read
from narthex.supervisor.plan import Plan, Replan, Replanned

FIXED = ("data", "embedder.threads", "host", "http.tls", "log.format", "port", "workers")
"""Settings that a running server keeps, by name. Of `http.tls` only whether there is any: its files may change."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line said; it wins over file and environment, at each reload too."""

    config: str | None = None
    host: str | None = None
    port: int | None = None
    data: str | None = None
    workers: int | None = None
    tls_cert: str | None = None
    tls_key: str | None = None

    def read(self) -> Reading:
        """All settings, with every fault that can be told before the server starts."""
        given: dict[str, Any] = {name: getattr(self, name) for name in ("host", "port", "data", "workers")}
        if self.tls_cert is not None and self.tls_key is not None:
            given["http"] = {"tls": {"cert": self.tls_cert, "key": self.tls_key}}
        reading = read(None if self.config is None else Path(self.config), **given)
        reading.add(faults_across(reading, known_here(reading)))
        return reading


class Following(msgspec.Struct, frozen=True, kw_only=True):
    """What a later reading needs of the first: the options, and the values of `FIXED` as JSON holds them."""

    options: Options
    data_dir: str
    run_dir: str
    fixed: Mapping[str, Any]


def plan_of(settings: Settings, options: Options, *, data: Path, run_dir: Path, machine: Machine) -> Plan:
    """The plan of a server that can follow its settings.

    Raises:
        NarthexError: it can't be made.
    """
    made = Planner(settings, data=data, run_dir=run_dir, machine=machine).plan()
    following = Following(
        options=options,
        data_dir=str(data),
        run_dir=str(run_dir),
        fixed={name: _fixed(settings, name) for name in FIXED},
    )
    held = msgspec.Raw(msgspec.json.encode(following))
    return msgspec.structs.replace(made, replan=Replan(module="narthex.cli.replan", settings=held))


def replan(following: Following, *, machine: Machine) -> Replanned:
    """The plan by the settings as they are now, or every fault in them."""
    try:
        reading = following.options.read()
        reading.add(not_fetched(reading, Path(following.data_dir)))
        settings = reading.checked()
        differing = [name for name in FIXED if _differs(_fixed(settings, name), following.fixed[name], name)]
        plan = plan_of(
            _kept(settings, following.fixed, differing),
            following.options,
            data=Path(following.data_dir),
            run_dir=Path(following.run_dir),
            machine=machine,
        )
    except Invalid as error:
        return Replanned(faults=list(map(str, error.faults)))
    except NarthexError as error:
        return Replanned(faults=[error.message])
    return Replanned(plan=plan, needs_restart=[name for name in differing if name != "port" or settings.port])


def _fixed(settings: Settings, name: str) -> Any:
    """The value of a fixed setting, as JSON holds it."""
    if name == "data":
        return str(settings.data.absolute())
    branch, _, leaf = name.rpartition(".")
    value = getattr(getattr(settings, branch) if branch else settings, leaf)
    return value.model_dump(mode="json") if isinstance(value, Tls) else value


def _differs(now: Any, running: Any, name: str) -> bool:
    return (now is None) != (running is None) if name == "http.tls" else bool(now != running)


def _kept(settings: Settings, fixed: Mapping[str, Any], names: list[str]) -> Settings:
    """The settings with the running values of these."""
    for name in names:
        branch, _, leaf = name.rpartition(".")
        value = fixed[name]
        if name == "http.tls" and value is not None:
            value = Tls(**value)
        elif name == "data":
            value = Path(value)
        if branch:
            part = getattr(settings, branch).model_copy(update={leaf: value})
            settings = settings.model_copy(update={branch: part})
        else:
            settings = settings.model_copy(update={leaf: value})
    return settings
