"""`narthex reload`: have a running server follow its settings."""

import asyncio
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from narthex.cli.keys import DEFAULT_DATA, Data, reported
from narthex.ipc.client import Client
from narthex.supervisor import datafolder
from narthex.supervisor.plan import supervisor_socket
from narthex.supervisor.reload import Outcome


def reload(
    *, data: Data = DEFAULT_DATA, as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False
) -> None:
    """Have the server on this data folder read its settings again, without losing a request.

    Prints what has changed. Exit code 2: the settings are invalid, and nothing has changed.
    """
    with reported():
        outcome = asyncio.run(_asked(supervisor_socket(datafolder.find_run_dir(data))))
    if as_json:
        typer.echo(msgspec.json.encode(outcome))
    else:
        _tell(outcome)
    raise typer.Exit(2 if outcome.faults else 0)


def _tell(outcome: Outcome) -> None:
    if outcome.faults:
        typer.echo("\n  ".join(["narthex: The settings are invalid, nothing has changed:", *outcome.faults]), err=True)
        return
    typer.echo("\n  ".join(["Changed:", *outcome.changed]) if outcome.changed else "Nothing has changed.")
    if outcome.needs_restart:
        typer.echo("\n  ".join(["Needs a restart:", *outcome.needs_restart]))


async def _asked(socket: Path) -> Outcome:
    client = Client(socket, name="server on this data folder")
    try:
        return await client.call("reload", None, Outcome)
    finally:
        await client.aclose()
