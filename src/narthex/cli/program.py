"""The table of commands."""

import typer

from narthex import __version__
from narthex.cli import backup, config, docs, evaluate, importing, keys, models
from narthex.cli.chat import chat
from narthex.cli.reload import reload
from narthex.cli.serve import serve
from narthex.cli.status import status
from narthex.ipc import logs

app = typer.Typer(
    name="narthex",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="One address for every model and for a team's documents.",
    epilog="Start with `narthex serve`; then `narthex chat` in another terminal.",
)
app.command()(serve)
app.command()(chat)
app.command()(status)
app.command()(reload)
app.add_typer(docs.app, name="docs")
app.add_typer(keys.app, name="keys")
app.add_typer(models.app, name="models")
app.add_typer(config.app, name="config")
app.add_typer(importing.app, name="import")
app.add_typer(evaluate.app, name="eval")
app.command()(backup.backup)
app.command()(backup.restore)


@app.callback()
def configure() -> None:
    """Log lines of commands go to standard error: standard output is for what was asked for."""
    logs.configure(process="cli")


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)
