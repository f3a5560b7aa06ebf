"""Programs that are not ours, each with what it needs in an environment of its own under `.cache`."""

import subprocess
import sys
from pathlib import Path

CACHE = Path(__file__).parents[2] / ".cache"
INSTALL_S = 900.0


def installed(folder: Path, wanted: str) -> Path:
    """The environment's Python, with a package as pip names it. What is there already stays."""
    python, stamp = folder / "bin" / "python", folder / "installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    uv = str(Path(sys.executable).with_name("uv"))
    subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)], check=True)
    install = [uv, "pip", "install", "--quiet", "--python", str(python), wanted]
    subprocess.run(install, check=True, timeout=INSTALL_S)
    stamp.write_text(wanted)
    return python
