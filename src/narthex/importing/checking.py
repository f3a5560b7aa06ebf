"""Whether our own loader takes a file that was made here. The variables that it names need not be set."""

import re
import tempfile
from pathlib import Path

from narthex.settings import load

_VARIABLE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")


def check(text: str) -> None:
    """Load the settings and throw them away.

    Raises:
        ConfigError: they are not valid.
    """
    with tempfile.TemporaryDirectory(prefix="narthex-import-") as folder:
        file = Path(folder) / "narthex.yaml"
        file.write_text(_VARIABLE.sub("http://variable.invalid", text), encoding="utf-8")
        load(file)
