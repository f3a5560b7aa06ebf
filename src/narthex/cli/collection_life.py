"""`narthex docs rebuild`, `export` and `import`."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from narthex.cli.keys import DEFAULT_DATA, Data, reported
from narthex.cli.server import DEFAULT_URL, KeyFile, Server, Url, api_key, path
from narthex.core.errors import Conflict

Collection = Annotated[str, typer.Argument(metavar="COLLECTION", help="Its key.")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]
_LOOK_S = 0.3


def rebuild(
    collection: Collection,
    *,
    model: Annotated[str | None, typer.Option(help="Another embedding model.  \\[default: the same]")] = None,
    chunk_size: Annotated[
        int | None, typer.Option(min=1, help="Most characters of a chunk.  \\[default: each document's own]")
    ] = None,
    mode: Annotated[
        Literal["structure", "windows"] | None, typer.Option(help="How to cut.  \\[default: each document's own]")
    ] = None,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    data: Data = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Make a collection anew, with another model or cut otherwise, from what is stored.

    The former state serves until the new one is whole; what is written meanwhile is in the new one too. Ctrl-C stops
    waiting, not the work: see narthex docs jobs, which can also cancel it.

    Example: narthex docs rebuild handbook --chunk-size 600 --mode structure
    """
    asked = {"model": model, "chunkSize": chunk_size, "mode": mode}
    body = {name: value for name, value in asked.items() if value is not None}
    with reported(), Server(url, api_key(data, key_file)) as server:
        job = server.ask("POST", path("collections", collection, "rebuild"), body=body)
        _waited(server, collection, job, as_json=as_json, done=f"{collection} was made anew.")


def export(
    collection: Collection,
    target: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write; must not exist.")],
    *,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Save a collection in one file: texts, original files, chunks and vectors.

    Example: narthex docs export handbook handbook.narthex
    """
    with reported(), Server(url, api_key(data, key_file)) as server:
        if target.exists():
            raise Conflict(f"{target} exists already.")
        part = target.with_name(f".{target.name}.part")
        try:
            with part.open("wb") as file:
                size = server.fetch(path("collections", collection, "export"), file)
            part.rename(target)
        finally:
            part.unlink(missing_ok=True)
    typer.echo(f"Saved {collection} to {target} ({size / 1_000_000:.1f} MB).")


def take_in(
    collection: Collection,
    source: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False)],
    *,
    model: Annotated[str | None, typer.Option(help="Its embedding model.  \\[default: what the file says]")] = None,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    data: Data = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Make a collection out of an exported file. Vectors are used as they are where the model is the same.

    Example: narthex docs import handbook-copy handbook.narthex
    """
    with reported(), Server(url, api_key(data, key_file)) as server:
        fields = {} if model is None else {"model": model}
        with source.open("rb") as content:
            target = path("collections", collection, "import")
            job = server.send_form(target, fields, file=(source.name, content, "application/octet-stream"))
        _waited(server, collection, job, as_json=as_json, done=f"{collection} was made of {source}.")


def _waited(server: Server, collection: str, job: dict[str, Any], *, as_json: bool, done: str) -> None:
    """Follow a job to its end; exit with 1 where it failed."""
    try:
        with _bar(job["kind"]) as tell:
            while job["state"] in {"queued", "running"}:
                tell(job)
                time.sleep(_LOOK_S)
                job = server.ask("GET", path("collections", collection, "jobs", job["id"]))
    except KeyboardInterrupt:
        typer.echo(f"\nThe server goes on with it: narthex docs jobs {collection}", err=True)
        raise typer.Exit(130) from None
    if as_json:
        typer.echo(msgspec.json.encode(job))
    elif job["state"] == "done":
        typer.echo(done)
    else:
        typer.echo(f"Error: {job['error'] or 'The job was cancelled.'}", err=True)
    if job["state"] != "done":
        raise typer.Exit(1)


@contextmanager
def _bar(what: str) -> Iterator[Any]:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[message]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task(what, total=None, message="")
        yield lambda job: bars.update(task, completed=job["done"], total=job["total"] or None, message=job["message"])
