"""What `--through` changes for pytest: which tests run, which failures are refusals or known, and what is told."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.exchanges import EXCHANGES, Recorder
from tests.interop.chains import CHAINS
from tests.interop.known import KNOWN
from tests.interop.refusals import Table, refused, table
from tests.server_process import Server, StartServer

CAPABILITIES = pytest.StashKey[Table]()
BEFORE = pytest.StashKey[int]()
REFUSED, DIFFERS = "refused: ", "known: "


@pytest.fixture(scope="session")
def far_server(start_server: StartServer, models_dir: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    """The server that the clients see; what stands behind it lives as long."""
    stash = request.config.stash
    with CHAINS[request.config.getoption("--through")](start_server, models_dir) as server:
        with server.http() as client:
            stash[CAPABILITIES] = table(client.get("/v1/capabilities").raise_for_status().json())
        server.listeners.append(Recorder(stash.setdefault(EXCHANGES, [])).note)
        yield server


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests of servers of their own, and of what any second server changes; mark what is known."""
    through = config.getoption("--through")
    one_server = through == "local"
    left_out = [item for item in items if not _concerned(item, one_server=one_server)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if _concerned(item, one_server=one_server)]
    for item in items:
        for known in KNOWN.get(through, ()):
            if known.is_of(item.nodeid):
                reason = f"{DIFFERS}{known.field}: {known.reason}"
                item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


def _concerned(item: pytest.Item, *, one_server: bool) -> bool:
    meets_the_server = not {"server", "shallow_server"}.isdisjoint(getattr(item, "fixturenames", ()))
    return meets_the_server and (one_server or item.get_closest_marker("direct") is None)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Note how much was said before."""
    item.stash[BEFORE] = len(item.config.stash.setdefault(EXCHANGES, []))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """A failure after a refusal that the table announces is a skip that names the field."""
    report: pytest.TestReport = yield  # type: ignore[assignment]
    if report.failed and call.excinfo is not None and (field := _field(item)) is not None:
        report.outcome = "skipped"
        report.longrepr = (str(item.path), item.location[1] or 0, f"{REFUSED}{field}")
    return report  # type: ignore[return-value]


def _field(item: pytest.Item) -> str | None:
    said = item.config.stash.get(EXCHANGES, [])[item.stash.get(BEFORE, 0) :]
    capabilities = item.config.stash.get(CAPABILITIES, {})
    return next((field for each in reversed(said) if (field := refused(each, capabilities))), None)


# --- figures ---------------------------------------------------------------------------------------------------------


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The figures of one chain, by field; also as JSON into `--figures`."""
    stats = terminalreporter.stats
    figures = {
        "through": config.getoption("--through"),
        "passed": len(stats.get("passed", [])),
        "refused": _counted(stats.get("skipped", []), REFUSED),
        "known": _counted(stats.get("xfailed", []), DIFFERS),
        "failed": sorted({report.nodeid for kind in ("failed", "error") for report in stats.get(kind, [])}),
    }
    if (file := config.getoption("--figures")) is not None:
        Path(file).write_text(json.dumps(figures))


def _counted(reports: list[Any], prefix: str) -> dict[str, int]:
    counts = Counter(_reason(report).partition(prefix)[2] or "for another reason" for report in reports)
    return dict(counts.most_common())


def _reason(report: Any) -> str:
    return str(getattr(report, "wasxfail", "") or report.longrepr[2])
