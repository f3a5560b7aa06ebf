"""Log lines of our processes: JSON for machines, aligned columns for a terminal, each written in one piece."""

import contextlib
import os
import sys
from typing import Any, Literal

import msgspec
import structlog

LogFormat = Literal["auto", "json", "console"]


def configure(log_format: LogFormat = "auto", *, process: str) -> None:
    """Send this process's log lines to standard error, each with the name of the `process`."""
    plain = log_format == "json" or (log_format == "auto" and not sys.stderr.isatty())
    render: list[Any] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_encode)]
    lines: Any = _Lines(sys.stderr.fileno())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            lambda _logger, _method, event: {**event, "process": process},
            *(render if plain else [_console()]),
        ],
        logger_factory=lambda *_: structlog.WriteLogger(lines),
        cache_logger_on_first_use=True,
    )


def _console() -> structlog.dev.ConsoleRenderer:
    """Plain tracebacks: the pretty ones print local variables, and with them keys and bodies."""
    return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)


class _Lines:
    """Whole lines to a descriptor. One that is closed or full costs the line, never the process that logs."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, line: str) -> None:
        with contextlib.suppress(OSError):
            os.write(self._fd, line.encode(errors="replace"))

    def flush(self) -> None:
        """Nothing is held back."""


def _encode(event: Any, **_: Any) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()
