"""The gateways of a run, and the order in which they are measured."""

import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec
from gateways.bodies import bodies
from gateways.install import NotInstalled, install
from gateways.results import DIRECT, Cell, Results, Side, Trial
from gateways.running import NotStarted, Running, gateway, measure, upstream
from gateways.sides import OURS, SIDES

WARMING = [Cell(mode="json2k", connections=16), Cell(mode="stream64", connections=16)]


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How long one measurement takes, at most, and how often all are made."""

    seconds: float
    limit_s: float
    rounds: int


class Rounds:
    """A run, in which peers stand still until it is their turn. Whoever ends too early is left out from there."""

    def __init__(self, direct: Running, running: dict[str, Running], pace: Pace) -> None:
        self._direct = direct
        self._running = running
        self._pace = pace
        self._bodies = bodies()
        self.lost: dict[str, str] = {}

    def warm(self) -> None:
        """What is compiled, opened or imported with the first requests is not what a request costs."""
        for cell in WARMING:
            self.measured(cell, number=0)

    def measured(self, cell: Cell, *, number: int) -> list[Trial]:
        """One round: the server itself, then ours and each peer in turn."""
        made = [self._trial(self._direct, cell, pair=DIRECT, number=number)]
        for peer in [name for name in self._running if name != OURS]:
            made.append(self._trial(self._running[OURS], cell, pair=peer, number=number))
            made += self._peer(peer, cell, number=number)
        return made if len(made) > 1 else [*made, self._trial(self._running[OURS], cell, pair=OURS, number=number)]

    def _peer(self, name: str, cell: Cell, *, number: int) -> list[Trial]:
        side = self._running[name]
        try:
            side.go_on()
            made = self._trial(side, cell, pair=name, number=number)
            side.stand_still()
            return [made]
        except (subprocess.CalledProcessError, OSError) as fault:
            self.lost[name] = f"ended in {cell.mode} x {cell.connections}: {fault}"
            del self._running[name]
            return []

    def _trial(self, side: Running, cell: Cell, *, pair: str, number: int) -> Trial:
        print(f"{cell.mode} x {cell.connections}, round {number}: {side.name}", end="\033[K\r", file=sys.stderr)
        load = measure(
            side,
            body=self._bodies[cell.mode],
            warm_up=self._bodies["json2k"],
            connections=cell.connections,
            seconds=self._pace.seconds,
            limit_s=self._pace.limit_s,
        )
        return Trial(side=side.name, pair=pair, cell=cell, round=number, load=load)


def run(stack: ExitStack, folder: Path, *, names: Sequence[str], cells: Sequence[Cell], pace: Pace) -> Results:
    """Start everything, measure everything. The stack's end is everybody's."""
    direct = stack.enter_context(upstream())
    running, absent = started(stack, folder, names=names, upstream=direct.port)
    if OURS in absent:
        raise SystemExit(f"{OURS} did not start: {absent[OURS]}")
    idle = {name: side.memory_mb() for name, side in running.items()}
    for name, side in running.items():
        if name != OURS:
            side.stand_still()
    rounds = Rounds(direct, running, pace)
    rounds.warm()
    trials = [
        trial
        for cell in cells
        for number in range(1, pace.rounds + 1)
        for trial in rounds.measured(cell, number=number)
    ]
    sides = [
        Side(name=name, start_s=side.start_s, idle_mb=idle[name], after_mb=side.memory_mb())
        for name, side in running.items()
    ]
    return Results(sides=sides, absent={**absent, **rounds.lost}, trials=trials)


def started(
    stack: ExitStack, folder: Path, *, names: Sequence[str], upstream: int
) -> tuple[dict[str, Running], dict[str, str]]:
    """The gateways that answer, and why the others do not."""
    running: dict[str, Running] = {}
    absent: dict[str, str] = {}
    body = bodies()["json2k"]
    for name in names:
        try:
            install(name)
            side = gateway(name, launch=SIDES[name], folder=folder / name, upstream=upstream, body=body)
            running[name] = stack.enter_context(side)
        except (NotInstalled, NotStarted, OSError) as fault:
            absent[name] = str(fault)
    return running, absent
