"""The sides and what runs them."""

import sys
import tomllib
from pathlib import Path

from gateways.install import NotInstalled, python

__all__ = ["SIDES", "NotInstalled", "command"]

HERE = Path(__file__).parent
CACHE = HERE.parent.parent / ".cache" / "retrieval"
WANTED = tomllib.loads((HERE / "peers.toml").read_text())
SIDES = ("ours", "lancedb", "chroma")
SCRIPTS = {"ours": "ours.py", "many": "many.py", "lancedb": "lancedb_side.py", "chroma": "chroma_side.py"}


def command(side: str) -> list[str]:
    """What starts a side; a peer is installed first.

    Raises:
        NotInstalled: it could not be.
    """
    script = str(HERE / "sides" / SCRIPTS[side])
    if side not in WANTED:
        return [sys.executable, script]
    folder = CACHE / side
    stamp = folder / "installed"
    if not stamp.exists() or stamp.read_text() != WANTED[side]:
        print(f"installing {WANTED[side]}", file=sys.stderr, flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        python(WANTED[side], folder)
        stamp.write_text(WANTED[side])
    return [str(folder / "bin" / "python"), "-W", "ignore", script]
