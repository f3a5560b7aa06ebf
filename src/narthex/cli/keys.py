"""`narthex keys`: make, list and revoke keys. Works on the data folder itself, whether or not the server runs."""

import asyncio
import contextlib
import re
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from narthex.core.errors import NarthexError
from narthex.core.keys import EVERYTHING, Grants, Key, KeyProfile, Keys, NewKey, Secret
from narthex.storage.adminkey import write_admin_key
from narthex.storage.sqlite import control

T = TypeVar("T")

app = typer.Typer(no_args_is_help=True, help="Make, list and revoke API keys.")

Data = Annotated[Path, typer.Option("--data", help="The data folder.", envvar=None)]
DEFAULT_DATA = Path("narthex-data")

_PIPED_COLUMNS = 200
_UNIT_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


@app.command()
def create(  # noqa: PLR0913 - a command's parameters are its options
    *,
    name: Annotated[str, typer.Option(help="What the key is called.")] = "key",
    surfaces: Annotated[str, typer.Option(help="Which endpoints it may use, with commas between.")] = EVERYTHING,
    models: Annotated[str, typer.Option(help="Which models: names or patterns, with commas between.")] = EVERYTHING,
    collections: Annotated[str, typer.Option(help="Which collections: names or patterns.")] = EVERYTHING,
    templates: Annotated[
        bool, typer.Option("--templates", help="Its requests may bring chat templates, to models that take them.")
    ] = False,
    admin: Annotated[bool, typer.Option("--admin", help="May do everything, run the server included.")] = False,
    profile: Annotated[
        KeyProfile, typer.Option(help="Whose API the key's answers follow; server: that of the setting http.profile.")
    ] = "server",
    expires: Annotated[str | None, typer.Option(help="When it ends: 12h, 30d, 8w. Never when left out.")] = None,
    lenient: Annotated[bool, typer.Option("--lenient", help="Drop unknown request fields, don't refuse.")] = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Make a key and print it, once: only its digest is kept."""
    grants = Grants(
        surfaces=frozenset(_names(surfaces)),
        models=_names(models),
        collections=_names(collections),
        templates=templates,
    )
    with reported():
        new = NewKey(
            name=name,
            grants=Grants.everything() if admin else grants,
            profile=profile,
            strict=not lenient,
            expires_ms=None if expires is None else now_ms() + _lifetime_ms(expires),
        )
        key, secret = _with_keys(data, lambda keys: keys.create(new, within=Grants.everything()))
    _show(key, secret)


@app.command(name="list")
def list_keys(
    *, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False, data: Data = DEFAULT_DATA
) -> None:
    """List every key: what it may do and whether it is good."""
    with reported():
        keys = _with_keys(data, lambda keys: keys.list())
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(keys, order="deterministic")))
        return
    table = Table(
        "name", Column("prefix", no_wrap=True), "surfaces", "models", "profile", Column("state", no_wrap=True)
    )
    now = now_ms()
    for key in keys:
        cells = (
            key.name,
            key.prefix,
            _surfaces(key.grants),
            ", ".join(key.grants.models),
            key.profile,
            _state(key, now),
        )
        table.add_row(*(Text(cell, overflow="fold") for cell in cells))
    Console(width=None if sys.stdout.isatty() else _PIPED_COLUMNS).print(table)


@app.command()
def revoke(reference: Annotated[str, typer.Argument(metavar="ID|PREFIX|NAME")], *, data: Data = DEFAULT_DATA) -> None:
    """Revoke a key: its next request is refused."""
    with reported():
        key = _with_keys(data, lambda keys: keys.revoke(reference))
    typer.echo(f"Revoked {key.name} ({key.prefix}…).")


@app.command()
def reset_admin(*, data: Data = DEFAULT_DATA) -> None:
    """Revoke the keys named `admin`, make a new one and write it to admin.key in the data folder."""
    with reported():
        key, secret = _with_keys(data, lambda keys: keys.reset_admin())
        try:
            written = write_admin_key(data, secret)
        except NarthexError:
            _show(key, secret)  # the old keys are gone: this one must not be lost too
            raise
    _show(key, secret)
    typer.echo(f"Written to {written}.", err=True)


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Print an error of ours as one line and end with exit code 1."""
    try:
        yield
    except NarthexError as error:
        typer.echo(f"Error: {error.message}", err=True)
        raise typer.Exit(1) from None


def now_ms() -> int:
    """The system's clock, milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def _with_keys(data: Path, work: Callable[[Keys], Awaitable[T]]) -> T:
    async def run() -> T:
        store = await control.open_control(data / control.FILE, clock=now_ms, create=False)
        try:
            return await work(store.keys)
        finally:
            await store.aclose()

    return asyncio.run(run())


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in (part.strip() for part in text.split(",")) if name)


def _lifetime_ms(text: str) -> int:
    if not (found := re.fullmatch(r"([1-9][0-9]{0,5})([smhdw])", text)):
        raise typer.BadParameter("give a number and one of s, m, h, d, w, as in 30d", param_hint="--expires")
    return int(found[1]) * _UNIT_MS[found[2]]


def _show(key: Key, secret: Secret) -> None:
    typer.echo(secret.reveal())
    if sys.stdout.isatty():
        typer.echo(f"This is the key `{key.name}`. Keep it now: it is not shown again.", err=True)


def _surfaces(grants: Grants) -> str:
    if grants.admin:
        return "admin"
    return ", ".join(sorted(grants.surfaces)) + (" + templates" if grants.templates else "")


def _state(key: Key, now: int) -> str:
    if key.revoked_ms is not None:
        return f"revoked {_day(key.revoked_ms)}"
    if key.expires_ms is None:
        return "good"
    return f"good until {_day(key.expires_ms)}" if key.is_live(now) else f"expired {_day(key.expires_ms)}"


def _day(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d")
