"""Python's own documentation, as its Debian package has it: pages of a real manual, the same everywhere."""

import shutil
import subprocess
import tempfile
from pathlib import Path

CACHE = Path(__file__).parent.parent.parent / ".cache" / "quality"
PACKAGE = "python3.11-doc"
PARTS = ("library", "reference", "howto", "tutorial", "faq")


def pages() -> Path:
    """A folder with the pages, fetched and unpacked if need be; nothing of the system is changed."""
    folder = CACHE / "pages"
    if folder.exists():
        return folder
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        _run(["apt-get", "download", PACKAGE], cwd=scratch)
        (package,) = Path(scratch).glob("*.deb")
        _run(["dpkg-deb", "-x", str(package), scratch], cwd=scratch)
        html = Path(scratch) / "usr/share/doc" / PACKAGE.removesuffix("-doc") / "html"
        chosen = Path(scratch) / "chosen"
        for part in PARTS:
            shutil.copytree(html / part, chosen / part)
        chosen.replace(folder)
    return folder


def _run(command: list[str], *, cwd: str) -> None:
    try:
        subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True, timeout=600)
    except FileNotFoundError:
        raise SystemExit(
            f"{command[0]} is not here: this benchmark takes its documents from Debian's {PACKAGE}."
        ) from None
    except subprocess.CalledProcessError as fault:
        raise SystemExit(f"{' '.join(command)}: {fault.stderr.strip()}") from None
