"""Log lines of our processes: JSON for machines, aligned columns for a terminal, each written in one piece."""

import asyncio
import contextlib
import os
import sys
import time
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
import structlog

_log = structlog.get_logger(__name__)

LogFormat = Literal["auto", "json", "console"]

REQUEST_ID: ContextVar[str] = ContextVar(f"{structlog.contextvars.STRUCTLOG_KEY_PREFIX}request_id")
"""Of the request that a task answers; stands in each of its lines. As structlog's own, without its detours."""


def configure(log_format: LogFormat = "auto", *, process: str) -> None:
    """Send this process's log lines to standard error, each with the name of the `process`."""
    plain = _is_plain(log_format)
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


class AccessLog:
    """Lines about requests: nearly all that a busy process logs. The lines of one turn of the loop leave in one write.

    In JSON they are as `configure`d lines are, at a fraction of the cost; else they are those.
    """

    def __init__(self, log_format: LogFormat = "auto", *, process: str) -> None:
        self._plain = _is_plain(log_format)
        self._fd = sys.stderr.fileno()
        self._process = process
        self._second = (-1, "")
        self._held: list[bytes] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def __call__(self, line: dict[str, Any]) -> None:
        """Log one request."""
        if not self._plain:
            _log.info("request", **line)
            return
        line |= {"event": "request", "level": "info", "timestamp": self._now(), "process": self._process}
        if not self._held:
            if self._loop is None:
                self._loop = asyncio.get_running_loop()
            self._loop.call_soon(self._flush)
        self._held.append(msgspec.json.encode(line, enc_hook=str))

    def _now(self) -> str:
        """As `datetime` writes it, which writes all of a second anew each time."""
        second, rest_ns = divmod(time.time_ns(), 1_000_000_000)
        if second != self._second[0]:
            self._second = second, datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{self._second[1]}.{rest_ns // 1000:06}Z"

    def _flush(self) -> None:
        lines = b"\n".join((*self._held, b""))
        self._held.clear()
        with contextlib.suppress(OSError):
            os.write(self._fd, lines)


def _is_plain(log_format: LogFormat) -> bool:
    return log_format == "json" or (log_format == "auto" and not sys.stderr.isatty())


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
