"""Which answers of the server count as refusals, and which differences are known."""

import json
from typing import Any

import pytest
from tests.exchanges import HttpExchange
from tests.interop.known import KNOWN, Known
from tests.interop.refusals import refused, table

CELLS = {
    "model": {"state": "native"},
    "seed": {"state": "refused"},
    "tools": {"state": "native", "limits": "functions"},
}
LISTED = {"data": [{"id": "m", "deployments": [{"name": "p/m", "surfaces": {"chat": CELLS}}]}]}


def exchange(
    code: str | None, param: str | None, *, status: int = 400, path: str = "chat/completions", **sent: Any
) -> HttpExchange:
    error = {"message": "no", "type": "invalid_request_error", "code": code, "param": param}
    return HttpExchange(
        method="POST",
        path=f"/v1/{path}",
        sent=json.dumps({"model": "m"} | sent).encode(),
        status=status,
        content_type="application/json",
        received=json.dumps({"error": error}).encode(),
    )


@pytest.mark.parametrize(
    ("said", "field"),
    [
        (exchange("unsupported_parameter", "seed"), "seed"),
        (exchange("unsupported_value", "tools[0].type"), "tools (functions)"),
        (exchange("unsupported_value", "model", path="completions"), "model (no completions)"),
        (exchange("unsupported_parameter", "tools"), None),
        (exchange("unsupported_value", "model"), None),
        (exchange("invalid_value", "seed"), None),
        (exchange("unsupported_parameter", None), None),
        (exchange("unsupported_parameter", "unheard_of"), None),
        (exchange("unsupported_parameter", "seed", status=200), None),
        (exchange("unsupported_parameter", "seed", path="models"), None),
        (exchange("unsupported_parameter", "seed", model="other"), None),
    ],
    ids=str,
)
def test_only_what_the_table_says_is_a_refusal(said: HttpExchange, field: str | None) -> None:
    assert refused(said, table(LISTED)) == field


def test_what_is_no_error_object_is_no_refusal() -> None:
    said = exchange("unsupported_parameter", "seed")
    said.received = b"no JSON"
    assert refused(said, table(LISTED)) is None


def test_a_known_difference_names_a_test_or_some_of_its_parameters() -> None:
    whole, some = Known("a.py::test_b", "f", "why"), Known("a.py::test_b[1]", "f", "why")
    assert whole.is_of("tests/a.py::test_b")
    assert whole.is_of("tests/a.py::test_b[2]")
    assert some.is_of("tests/a.py::test_b[1]")
    assert not some.is_of("tests/a.py::test_b[2]")
    assert not whole.is_of("tests/a.py::test_bc")


def test_no_difference_is_listed_twice() -> None:
    for rows in KNOWN.values():
        assert len({row.test for row in rows}) == len(rows)
