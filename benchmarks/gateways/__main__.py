"""What a request costs in Narthex, and in other gateways, side by side in one run.

python -m gateways [--quick] [--only narthex,nginx,floor] [--mode json2k] [--connections 64] [--json FILE]

Every gateway is started on one core; the model's server and the callers share another. Each round asks the server
itself and then Narthex and a peer in turn (A B A C A D), so a peer's figures always stand beside ours of the same
seconds. CPU time is that of all of a gateway's processes. Narthex checks its callers' keys.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec
from gateways.bodies import bodies
from gateways.install import NotInstalled, install
from gateways.results import Cell, Results, Side, Trial
from gateways.running import NotStarted, Running, gateway, measure, upstream
from gateways.sides import OURS, PEERS, SIDES
from gateways.table import told

MODES = ("json2k", "json20k", "json150k", "json2m", "stream64")
CONNECTIONS = (1, 64, 256)
CELLS = [Cell(mode=mode, connections=connections) for mode in MODES for connections in CONNECTIONS]
TOO_LARGE = [Cell(mode="json2m", connections=256)]
"""Half a gigabyte under way would measure the machine's memory."""
QUICK = [
    Cell(mode="json2k", connections=1),
    *(Cell(mode=mode, connections=64) for mode in ("json2k", "json20k", "stream64")),
    Cell(mode="json2m", connections=1),
    Cell(mode="stream64", connections=256),
]


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How long one measurement takes, at most, and how often all are made."""

    seconds: float
    limit_s: float
    rounds: int


DAILY = Pace(seconds=0.3, limit_s=3.0, rounds=2)
FULL = Pace(seconds=0.5, limit_s=20.0, rounds=5)


def main() -> None:
    asked = arguments()
    names = asked.only.split(",") if asked.only else list(SIDES)
    peers = [name for name in PEERS if name in names]
    cells = [
        cell
        for cell in (QUICK if asked.quick else [cell for cell in CELLS if cell not in TOO_LARGE])
        if asked.mode in (None, cell.mode) and asked.connections in (None, cell.connections)
    ]
    with tempfile.TemporaryDirectory(prefix="nx-") as folder, ExitStack() as stack:
        results = run(stack, Path(folder), peers=peers, cells=cells, pace=DAILY if asked.quick else FULL)
    print(told(results))
    if asked.json:
        asked.json.write_bytes(msgspec.json.format(msgspec.json.encode(results)))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under three minutes, for daily work")
    parser.add_argument("--only", help=f"of {','.join(SIDES)}; all when left out, and {OURS} always")
    parser.add_argument("--mode", choices=MODES)
    parser.add_argument("--connections", type=int, choices=CONNECTIONS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement into it")
    return parser.parse_args()


def run(stack: ExitStack, folder: Path, *, peers: Sequence[str], cells: Sequence[Cell], pace: Pace) -> Results:
    """Start everything, measure everything. The stack's end is everybody's."""
    wanted = bodies()
    direct = stack.enter_context(upstream())
    running: dict[str, Running] = {}
    absent: dict[str, str] = {}
    for name in [OURS, *peers]:
        try:
            install(name)
            started = gateway(
                name, launch=SIDES[name], folder=folder / name, upstream=direct.port, body=wanted["json2k"]
            )
            running[name] = stack.enter_context(started)
        except (NotInstalled, NotStarted) as fault:
            absent[name] = str(fault)
    if OURS in absent:
        raise SystemExit(f"{OURS} did not start: {absent[OURS]}")
    idle = {name: side.memory_mb() for name, side in running.items()}
    for mode in ("json2k", "stream64"):
        warm = Cell(mode=mode, connections=16)
        round_of(direct, running, cell=warm, bodies=wanted, pace=pace, number=-1)
    trials = [
        trial
        for cell in cells
        for number in range(pace.rounds)
        for trial in round_of(direct, running, cell=cell, bodies=wanted, pace=pace, number=number)
    ]
    sides = [
        Side(name=name, start_s=side.start_s, idle_mb=idle[name], after_mb=side.memory_mb())
        for name, side in running.items()
    ]
    return Results(sides=sides, absent=absent, trials=trials)


def round_of(
    direct: Running, running: dict[str, Running], *, cell: Cell, bodies: dict[str, bytes], pace: Pace, number: int
) -> list[Trial]:
    """The server itself, then ours and each peer in turn."""
    turns = [direct]
    for name, peer in running.items():
        turns += [running[OURS], peer] if name != OURS else []
    if len(running) == 1:
        turns.append(running[OURS])
    made: list[Trial] = []
    for place, side in enumerate(turns):
        load = measure(
            side,
            body=bodies[cell.mode],
            warm_up=bodies["json2k"],
            connections=cell.connections,
            seconds=pace.seconds,
            limit_s=pace.limit_s,
        )
        pair = turns[place + 1].name if side.name == OURS and place + 1 < len(turns) else side.name
        made.append(Trial(side=side.name, pair=pair, cell=cell, round=number, load=load))
        print(f"{cell.mode} x {cell.connections}, round {number + 1}: {side.name}", end="\033[K\r", file=sys.stderr)
    return made


if __name__ == "__main__":
    main()
