"""The clients' tests through what others put between a client and a model; prints a table.

python -m tests.interop [NAME ...] [-- PYTEST ARGUMENTS]

Names: those of chains.py, or scale-gp for other versions of Scale's client; none: what `ALL` has.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.interop import scale

ROOT = Path(__file__).resolve().parents[2]
ALL = ("local", "narthex", "litellm-openai", "litellm-anthropic", scale.NAME)

Figures = dict[str, Any]


def main(arguments: list[str]) -> int:
    """Run them one after the other; 1 if one of them failed."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    names, options = arguments[:at], arguments[at + 1 :]
    rows, failed = [], False
    for name in names or ALL:
        if name == scale.NAME:
            print(f"\n=== {name} {', '.join(scale.VERSIONS)}\n", flush=True)
            failed = bool(scale.main()) or failed
            continue
        print(f"\n=== through {name}\n", flush=True)
        figures, code, took_s = run(name, options)
        failed = failed or code != 0
        rows.append((name, figures, took_s))
    if rows:
        show(rows)
    return int(failed)


def run(name: str, options: list[str]) -> tuple[Figures | None, int, float]:
    """The figures of one chain; none if it did not come to an end."""
    tests = sorted(str(file.relative_to(ROOT)) for file in ROOT.glob("tests/integration/test_openai_client_*.py"))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.json"
        command = [sys.executable, "-m", "pytest", "-m", "not soak", "--through", name, "--figures", str(file), "-rfE"]
        began = time.monotonic()
        code = subprocess.run([*command, *tests, *options], cwd=ROOT, check=False).returncode
        figures = json.loads(file.read_text()) if file.exists() else None
    return figures, code, time.monotonic() - began


def show(rows: list[tuple[str, Figures | None, float]]) -> None:
    print(f"\n{'through':<20} {'passed':>7} {'refused':>8} {'known':>6} {'failed':>7} {'minutes':>8}")
    for name, figures, took_s in rows:
        if figures is None:
            print(f"{name:<20} did not run to its end")
            continue
        sums = [figures["passed"], *(sum(figures[kind].values()) for kind in ("refused", "known"))]
        passed, refused, known = sums
        print(f"{name:<20} {passed:>7} {refused:>8} {known:>6} {len(figures['failed']):>7} {took_s / 60:>8.1f}")
        for kind in ("refused", "known"):
            for field, count in figures[kind].items():
                print(f"    {kind:<8} {count:>4} x {field}")
        for node in figures["failed"]:
            print(f"    failed   {node}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
