"""Installs the peers, each in an environment of its own; what is there already stays."""

import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
PEERS = tomllib.loads((HERE / "peers.toml").read_text())
CACHE = HERE.parent.parent / ".cache" / "gateways"


class NotInstalled(Exception):
    """Its installation failed; the message says how."""


def install(name: str) -> None:
    """Make sure that a peer is there.

    Raises:
        NotInstalled: it could not be installed.
    """
    wanted = wanted_of(name)
    folder = CACHE / name
    stamp = folder / "installed"
    if not wanted or (stamp.exists() and stamp.read_text() == wanted):
        return
    print(f"installing {wanted}", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if name in PEERS["python"]:
        python(wanted, folder)
    elif name in PEERS["npm"]:
        called(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), wanted])
    else:
        debian(PEERS["debian"][name], folder)
    stamp.write_text(wanted)


def wanted_of(name: str) -> str:
    """What is installed for a peer; empty for one that needs nothing."""
    if name in PEERS["debian"]:
        return " ".join(PEERS["debian"][name])
    return str({**PEERS["python"], **PEERS["npm"]}.get(name, ""))


def python(requirement: str, folder: Path) -> None:
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or "uv"
    called([uv, "venv", "--quiet", "--python", sys.executable, str(folder)])
    called([uv, "pip", "install", "--quiet", "--python", str(folder / "bin" / "python"), requirement])


def debian(packages: Sequence[str], folder: Path) -> None:
    """Unpack the distribution's packages; nothing of the system is changed, so nobody needs to be root."""
    with tempfile.TemporaryDirectory() as downloads:
        called(["apt-get", "download", *packages], cwd=downloads)
        for package in Path(downloads).glob("*.deb"):
            called(["dpkg-deb", "-x", str(package), str(folder)])


def called(command: Sequence[str], *, cwd: str | None = None) -> None:
    try:
        subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True, timeout=600)
    except (OSError, subprocess.SubprocessError) as fault:
        told = (getattr(fault, "stderr", "") or str(fault)).strip().splitlines()
        raise NotInstalled(f"{command[0]}: {told[-1] if told else 'failed'}") from fault
