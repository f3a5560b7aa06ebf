"""The table of commands."""

from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import Any, cast

import typer
from typer.core import TyperGroup
from typing_extensions import override

from narthex import __version__
from narthex.ipc import logs

PLACES = {
    "serve": "serve:serve",
    "chat": "chat:chat",
    "status": "status:status",
    "reload": "reload:reload",
    "backup": "backup:backup",
    "restore": "backup:restore",
    "version": "program:version",
    "docs": "docs:app",
    "keys": "keys:app",
    "models": "models:app",
    "config": "config:app",
    "import": "importing:app",
    "eval": "evaluate:app",
}
"""Each command or group of commands by name, in the order of `--help`: its module here, and its name there."""


class Commands(Mapping[str, Any]):
    """The commands by name. Each is imported when it is asked for: all of them need half a second."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    @override
    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            module, _, attribute = PLACES[name].partition(":")
            self._made[name] = _command(name, getattr(import_module(f"narthex.cli.{module}"), attribute))
        return self._made[name]

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(PLACES)

    @override
    def __len__(self) -> int:
        return len(PLACES)


def _command(name: str, found: Any) -> Any:
    if isinstance(found, typer.Typer):
        made: Any = typer.main.get_group(found)
    else:
        alone = typer.Typer(add_completion=False)
        alone.command(name)(found)
        made = typer.main.get_command(alone)
    made.name = name
    return made


class Program(TyperGroup):
    """The program itself."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = cast(MutableMapping[str, Any], Commands())  # which nobody changes


app = typer.Typer(
    name="narthex",
    cls=Program,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="One address for every model and for a team's documents.",
    epilog="Start with `narthex serve`; then `narthex chat` in another terminal.",
)


@app.callback()
def configure() -> None:
    """Log lines of commands go to standard error: standard output is for what was asked for."""
    logs.configure(process="cli")


def version() -> None:
    """Print the version."""
    typer.echo(__version__)
