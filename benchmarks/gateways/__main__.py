"""What a request costs in Narthex, and in other gateways, side by side in one run.

python -m gateways [--quick] [--only narthex,nginx,floor] [--mode json2k] [--connections 64] [--json FILE]

Every gateway is started on one core; the model's server and the callers share another. Each round asks the server
itself and then Narthex and a peer in turn (A B A C A D), so a peer's figures always stand beside ours of the same
seconds. CPU time is that of all of a gateway's processes. Narthex checks its callers' keys.
"""

import argparse
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import msgspec
from gateways.results import Cell
from gateways.rounds import Pace, run
from gateways.sides import OURS, SIDES
from gateways.table import told

MODES = ("json2k", "json20k", "json150k", "json2m", "stream64")
CONNECTIONS = (1, 64, 256)
TOO_LARGE = Cell(mode="json2m", connections=256)
"""Half a gigabyte under way would measure the machine's memory."""
CELLS = [
    cell
    for mode in MODES
    for connections in CONNECTIONS
    if (cell := Cell(mode=mode, connections=connections)) != TOO_LARGE
]
DAILY_CELLS = [
    Cell(mode="json2k", connections=1),
    *(Cell(mode=mode, connections=64) for mode in ("json2k", "json20k", "stream64")),
    Cell(mode="json2m", connections=1),
    Cell(mode="stream64", connections=256),
]
FULL = Pace(seconds=0.4, limit_s=12.0, rounds=5)
DAILY = Pace(seconds=0.3, limit_s=3.0, rounds=2)


def main() -> None:
    asked = arguments()
    cells = [
        cell
        for cell in (DAILY_CELLS if asked.quick else CELLS)
        if asked.mode in (None, cell.mode) and asked.connections in (None, cell.connections)
    ]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is ended
    with tempfile.TemporaryDirectory(prefix="nx-") as folder, ExitStack() as stack:
        results = run(stack, Path(folder), names=asked.only, cells=cells, pace=DAILY if asked.quick else FULL)
    print(told(results))
    if asked.json:
        asked.json.write_bytes(msgspec.json.format(msgspec.json.encode(results)))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few minutes, for daily work")
    parser.add_argument("--only", type=sides, default=list(SIDES), help=f"of {','.join(SIDES)}; {OURS} always")
    parser.add_argument("--peer", dest="only", type=sides, metavar="PEER", help="one of them, beside ours")
    parser.add_argument("--mode", choices=MODES)
    parser.add_argument("--connections", type=int, choices=CONNECTIONS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement into it")
    return parser.parse_args()


def sides(text: str) -> list[str]:
    """Of an argument, ours first."""
    unknown = set(text.split(",")) - set(SIDES)
    if unknown:
        raise argparse.ArgumentTypeError(f"not known: {', '.join(sorted(unknown))}")
    return [name for name in SIDES if name == OURS or name in text.split(",")]


if __name__ == "__main__":
    main()
