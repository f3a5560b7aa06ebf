"""Narthex: one address for every model and for a team's documents."""

import gc
import sys

__version__ = "0.1.0"

# What a process imports stays: looking through it again and again while more comes is a seventh of its start.
gc.set_threshold(50_000, 20, 50)

# structlog looks for rich, whose tracebacks we never let it print, and which is a third of a small process's start.
if "structlog" not in sys.modules and "rich" not in sys.modules:
    sys.modules["rich"] = None  # type: ignore[assignment]  # the import system's own sign for "not there"
    import structlog  # noqa: F401

    del sys.modules["rich"]
