"""Which 400s are no failure: those for what the served table of capabilities says is refused."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from tests.exchanges import HttpExchange

Table = Mapping[str, Sequence[Mapping[str, Any]]]
"""Model to the surfaces of its deployments, from `GET /v1/capabilities`."""

CODES = ("unsupported_parameter", "unsupported_value", "unknown_parameter")
SURFACES = {"/chat/completions": "chat", "/completions": "completions", "/embeddings": "embeddings"}


def table(listed: Mapping[str, Any]) -> Table:
    """From the body of the answer."""
    return {row["id"]: [each["surfaces"] for each in row["deployments"]] for row in listed["data"]}


def refused(exchange: HttpExchange, capabilities: Table) -> str | None:
    """The field that was refused, if the table says so, with the values that it excepts; None for any other answer."""
    if exchange.status != 400 or not exchange.path.startswith("/v1"):
        return None
    try:
        error, sent = json.loads(exchange.received)["error"], msgspec.json.decode(exchange.sent, type=dict[str, Any])
    except (ValueError, KeyError):
        return None
    surface = SURFACES.get(exchange.path.removeprefix("/v1").partition("?")[0])
    deployments = capabilities.get(str(sent.get("model")))
    if error["code"] not in CODES or not error["param"] or surface is None or deployments is None:
        return None
    field = re.split(r"[.\[]", error["param"])[0]
    if field == "model" and not any(surface in surfaces for surfaces in deployments):
        return f"model (no {surface})"
    cells = [surfaces[surface].get(field) for surfaces in deployments if surface in surfaces]
    return next((_told(field, cell) for cell in cells if cell and _is_refused(cell, error["code"])), None)


def _is_refused(cell: Mapping[str, str], code: str) -> bool:
    return cell["state"] == "refused" or (code == "unsupported_value" and "limits" in cell)


def _told(field: str, cell: Mapping[str, str]) -> str:
    return field if cell["state"] == "refused" else f"{field} ({cell['limits']})"
