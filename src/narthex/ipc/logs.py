"""Log lines of our processes: JSON for machines, aligned columns for a terminal, each written in one piece."""

import sys
from typing import Any, Literal

import msgspec
import structlog

LogFormat = Literal["auto", "json", "console"]


def configure(log_format: LogFormat = "auto", *, process: str) -> None:
    """Send this process's log lines to standard error, each with the name of the `process`."""
    plain = log_format == "json" or (log_format == "auto" and not sys.stderr.isatty())
    render: list[Any] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_encode)]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            lambda _logger, _method, event: {**event, "process": process},
            *(render if plain else [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]),
        ],
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )


def _encode(event: Any, **_: Any) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()
