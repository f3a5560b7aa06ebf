"""`narthex config`: check the settings, and show what they come to."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer
import yaml
from rich.console import Console
from rich.markup import escape

from narthex.core.errors import ConfigError
from narthex.serving.following import Options
from narthex.settings import Invalid, Settings, load, origins

app = typer.Typer(no_args_is_help=True, help="Check and show the settings.")

File = Annotated[Path | None, typer.Option("--config", help="Settings file.  \\[default: ./narthex.yaml if there]")]


@app.command()
def check(
    *, config: File = None, as_json: Annotated[bool, typer.Option("--json", help="Print the faults as JSON.")] = False
) -> None:
    """Read all settings and list every fault with its place. Exit code 0: they are valid; 2: they are not."""
    faults = Options(config=None if config is None else str(config)).read().faults
    if as_json:
        typer.echo(msgspec.json.encode({"valid": not faults, "faults": faults}))
    elif faults:
        _refuse(Invalid(faults))
    else:
        typer.echo("The configuration is valid.")
    raise typer.Exit(2 if faults else 0)


@app.command()
def show(*, config: File = None) -> None:
    """Print the effective settings, each with where it comes from. Secrets are not shown."""
    settings = _loaded(config)
    sources = origins(settings, config)
    for name, value in settings.model_dump(mode="json").items():
        typer.echo(f"# from: {sources[name]}")
        typer.echo(yaml.safe_dump({name: value}, sort_keys=False, allow_unicode=True), nl=False)


def _loaded(config: Path | None) -> Settings:
    try:
        return load(config)
    except ConfigError as error:
        _refuse(error)
        raise typer.Exit(2) from None


def _refuse(error: ConfigError) -> None:
    Console(stderr=True, highlight=False).print(f"[red]narthex:[/red] {escape(error.message)}", soft_wrap=True)
