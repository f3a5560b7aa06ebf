"""`narthex config`: check the settings, and show what they come to."""

from pathlib import Path
from typing import Annotated

import typer
import yaml
from rich.console import Console

from narthex.core.errors import ConfigError
from narthex.settings import Settings, load, origins

app = typer.Typer(no_args_is_help=True, help="Check and show the settings.")

File = Annotated[Path | None, typer.Option("--config", help="Settings file.  [default: ./narthex.yaml if there]")]


@app.command()
def check(*, config: File = None) -> None:
    """Read all settings and list every fault. Exit code 0: they are valid; 2: they are not."""
    _loaded(config)
    typer.echo("The configuration is valid.")


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
        Console(stderr=True, highlight=False).print(f"[red]narthex:[/red] {error.message}", soft_wrap=True)
        raise typer.Exit(2) from None
