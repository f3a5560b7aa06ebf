"""`python scripts/docs`: write the generated pages. `--check` writes nothing; it names stale pages and ends with 1."""

import argparse
import logging
import sys
from collections.abc import Callable
from pathlib import Path

import capabilities_page
import cli_page
import errors_page
import http_page
import providers_page
import settings_page
import structlog

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
PAGES: dict[str, Callable[[], str]] = {
    "capabilities.md": capabilities_page.page,
    "cli.md": cli_page.page,
    "errors.md": errors_page.page,
    "http-api.md": http_page.page,
    "providers.md": providers_page.page,
    "settings.md": settings_page.page,
}


def main() -> int:
    """Write or check every page; returns the exit code."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    parser = argparse.ArgumentParser(prog="scripts/docs", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a page is stale")
    check = parser.parse_args().check
    REFERENCE.mkdir(parents=True, exist_ok=True)
    stale = []
    for name, make in PAGES.items():
        file, made = REFERENCE / name, make()
        if not file.exists() or file.read_text(encoding="utf-8") != made:
            stale.append(f"docs/reference/{name}")
            if not check:
                file.write_text(made, encoding="utf-8")
    if check and stale:
        sys.stderr.write(f"Stale: {', '.join(stale)}. Run `.venv/bin/python scripts/docs` and commit the result.\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
