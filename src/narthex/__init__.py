"""Narthex: one address for every model and for a team's documents."""

import gc
import sys

__version__ = "0.1.0"

# What a process imports stays: looking through it again and again while more comes is a seventh of its start.
gc.set_threshold(50_000, 20, 50)


class _WithoutRich:
    """Hides rich from structlog, which would only print tracebacks with it, as we never do: it is a third of a small
    process's start.
    """

    @staticmethod
    def find_spec(name: str, _path: object = None, _target: object = None) -> None:
        importing = getattr(sys.modules.get("structlog.dev"), "__spec__", None)
        if name == "rich" and getattr(importing, "_initializing", False):
            raise ModuleNotFoundError(name)


sys.meta_path.insert(0, _WithoutRich)
