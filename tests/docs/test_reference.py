"""The generated pages are those that the code makes now, and nothing is missing in them."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from tests.server_process import Server

import narthex
from narthex.cli.program import app
from narthex.core.errors import BY_NAME
from narthex.core.keys import PROFILES
from narthex.http.openapi import OPERATIONS
from narthex.settings import Settings

pytestmark = pytest.mark.patient

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"


def _page(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


def test_the_pages_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "docs"), "--check"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def _names(schema: dict[str, Any], definitions: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Every setting, by the schema of the settings and not by the classes that the page is made from."""
    for name, field in schema["properties"].items():
        path = f"{prefix}{name}"
        parts = [field, *field.get("anyOf", ()), *field.get("allOf", ())]
        branches = [(part["$ref"], ".") for part in parts if "$ref" in part]
        branches += [(field["items"]["$ref"], "[].")] if "$ref" in field.get("items", ()) else []
        many = field.get("additionalProperties", {})
        branches += [(many["$ref"], ".<name>.")] if "$ref" in many else []
        for reference, suffix in branches:
            yield from _names(definitions[reference.rpartition("/")[2]], definitions, f"{path}{suffix}")
        if not branches:
            yield path


def test_every_setting_has_its_entry() -> None:
    page, schema = _page("settings.md"), Settings.model_json_schema()
    names = list(_names(schema, schema["$defs"]))
    assert {"http.tls.cert", "models[].name", "providers.<name>.base_url"} < set(names)
    assert [name for name in names if f"| `{name}` |" not in page] == []


@pytest.mark.parametrize("operation", OPERATIONS, ids=" ".join)
def test_every_route_has_its_entry(operation: tuple[str, str]) -> None:
    assert f"| `{' '.join(operation)}` |" in _page("http-api.md")


def test_no_entry_is_of_a_route_that_is_not_served(server: Server) -> None:
    """The page is made from a worker of its own: a real one must serve the same."""
    with server.http() as client:
        paths = client.get("/openapi.json").json()["paths"]
    served = {f"| `{method.upper()} {path}` |" for path, methods in paths.items() for method in methods}
    listed = {line[: line.index(" |", 2) + 2] for line in _page("http-api.md").splitlines() if "` | " in line}
    assert {line for line in listed if " /" in line} == served


@pytest.mark.parametrize("name", BY_NAME)
def test_every_error_has_its_entry(name: str) -> None:
    kind, page = BY_NAME[name], _page("errors.md")
    if name in {"ConfigError", "RequestError"}:  # no caller ever sees them
        assert f"| {name} |" not in page
        return
    row = next(line for line in page.splitlines() if line.startswith(f"| {name} |"))
    assert f"| {kind.status} | `{kind.type}` |" in row
    assert (f"`{kind.default_code}`" if kind.default_code else "| null |") in row


def test_every_code_has_its_entry() -> None:
    page = _page("errors.md")
    codes = set()
    for file in Path(narthex.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "code" and isinstance(node.value, ast.Constant):
                codes.add(node.value.value)
    assert "unsupported_value" in codes
    assert [code for code in codes if f"`{code}`" not in page] == []


def _commands(group: Any, path: str) -> Iterator[str]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}"


def test_every_command_has_its_entry() -> None:
    page, readme = _page("cli.md"), (ROOT / "README.md").read_text(encoding="utf-8")
    commands = list(_commands(typer.main.get_command(app), "narthex"))
    assert [name for name in commands if f"## `{name}`\n" not in page] == []
    assert [name for name in commands if f"`{name.split()[-1]}`" not in readme and f"`{name}`" not in readme] == []


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_has_its_entry(profile: str) -> None:
    assert f"| `{profile}` |" in (ROOT / "docs" / "howto" / "keys.md").read_text(encoding="utf-8")


def test_the_codes_of_the_operations_page_exist() -> None:
    page = (ROOT / "docs" / "howto" / "operations.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^\| (\d{3}) `([a-z_]+)` \|", page, re.MULTILINE))
    assert len(told) > 5
    known = {(str(kind.status), kind.default_code) for kind in BY_NAME.values()}
    assert told <= known | {("401", "invalid_api_key"), ("400", "invalid_configuration")}
