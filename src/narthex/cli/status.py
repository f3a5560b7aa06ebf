"""`narthex status`: the processes of a running server."""

import asyncio
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from narthex.cli.keys import DEFAULT_DATA, Data, reported
from narthex.ipc.client import Client
from narthex.supervisor import datafolder
from narthex.supervisor.child import Status
from narthex.supervisor.plan import supervisor_socket

_STYLES = {"ready": "green", "failed": "red", "backoff": "red", "starting": "yellow", "stopping": "yellow"}


def status(
    *, data: Data = DEFAULT_DATA, as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False
) -> None:
    """Show the processes of the server on this data folder: state, memory, restarts, and why one failed."""
    with reported():
        rows = asyncio.run(_asked(supervisor_socket(datafolder.find_run_dir(data))))
    if as_json:
        typer.echo(msgspec.json.encode(rows))
        return
    table = Table("Process", "State", "PID", "Memory", "Restarts", "For", box=None, header_style="bold")
    for row in rows:
        shown: list[Any] = [row.pid or "", f"{row.memory_bytes / 1e6:.0f} MB" if row.pid else "", row.restarts]
        state = f"[{_STYLES.get(row.state, 'dim')}]{row.state}[/]"
        table.add_row(row.name, state, *map(str, shown), f"{row.since_s:.0f} s")
    console = Console()
    console.print(table)
    for row in rows:
        if row.message:
            console.print(f"{row.name}: {row.message}", soft_wrap=True, markup=False)


async def _asked(socket: Any) -> list[Status]:
    client = Client(socket, name="server on this data folder")
    try:
        return await client.call("status", None, list[Status], timeout_s=10)
    finally:
        await client.aclose()
