"""What a process of ours writes to its standard error."""

import json
import subprocess
import sys
from pathlib import Path

CODE = """
import sys, pathlib, structlog
from narthex.ipc import logs
logs.configure(sys.argv[1], process="worker-0")
log = structlog.get_logger()
log.info("served", path=pathlib.Path("/x"), count=2)
try:
    1 / 0
except ZeroDivisionError:
    log.exception("broke")
"""


def written(log_format: str) -> list[str]:
    argv = [sys.executable, "-c", CODE, log_format]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stderr.splitlines()


def test_json_where_nobody_watches() -> None:
    served, broke = map(json.loads, written("auto"))
    assert {**served, "timestamp": ""} == {
        "event": "served", "level": "info", "process": "worker-0", "path": "/x", "count": 2, "timestamp": ""
    }  # fmt: skip
    assert broke["exception"].endswith("ZeroDivisionError: division by zero")


def test_a_log_that_nobody_can_take_costs_nothing() -> None:
    with Path("/dev/full").open("w") as full:
        subprocess.run([sys.executable, "-c", CODE, "json"], stderr=full, check=True)


def test_columns_when_asked_for() -> None:
    first, *rest = written("console")
    assert "served" in first
    assert "process=worker-0" in first
    assert any("ZeroDivisionError" in line for line in rest)
