"""The table of commands."""

import typer

from narthex import __version__
from narthex.cli import backup, keys, models
from narthex.cli.serve import serve

app = typer.Typer(
    name="narthex",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="One address for every model and for a team's documents.",
    epilog="Start with `narthex serve`; then `narthex chat` in another terminal.",
)
app.command()(serve)
app.add_typer(keys.app, name="keys")
app.add_typer(models.app, name="models")
app.command()(backup.backup)
app.command()(backup.restore)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)
