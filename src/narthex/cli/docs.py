"""`narthex docs`: collections of documents on a running server."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from narthex.cli import collection_life
from narthex.cli.adding import Adding, Became, Standing
from narthex.cli.keys import DEFAULT_DATA, Data, reported
from narthex.cli.scanning import files_in
from narthex.cli.server import DEFAULT_URL, KeyFile, Server, Url, api_key, path

app = typer.Typer(
    no_args_is_help=True,
    help="Collections of documents on a running server: put files in, search them, look after them.",
    epilog="Begin with: narthex docs create handbook && narthex docs add handbook ./docs && "
    "narthex docs search handbook 'how to install'",
)

AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]
Collection = Annotated[str, typer.Argument(metavar="COLLECTION", help="Its key.")]
DEFAULT_MODEL = "all-minilm-l6-v2"
_SHOWN_CHARS = 300


@app.command("list")
def list_collections(
    *, url: Url = DEFAULT_URL, key_file: KeyFile = None, data: Data = DEFAULT_DATA, as_json: AsJson = False
) -> None:
    """Show the collections."""
    with reported(), Server(url, api_key(data, key_file)) as server:
        found = server.ask("GET", path("collections"))["collections"]
    if as_json:
        _print_json(found)
    else:
        _print_table(("Key", "Model", "Search", "Description"), found, ("key", "model", "retrieval", "description"))


@app.command()
def create(  # noqa: PLR0913 - a command's parameters are its options
    collection: Collection,
    *,
    model: Annotated[str, typer.Option(help="The embedding model that makes its vectors.")] = DEFAULT_MODEL,
    description: Annotated[str, typer.Option(help="What it is about.")] = "",
    retrieval: Annotated[
        Literal["hybrid", "vector", "keyword"], typer.Option(help="Search by meaning, by words, or by both.")
    ] = "hybrid",
    weight: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="What meaning counts for in hybrid search; `narthex eval docs` finds it."),
    ] = None,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    data: Data = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Make an empty collection.

    Example: narthex docs create handbook --description "How we work"
    """
    body: dict[str, Any] = {"model": model, "description": description, "retrieval": retrieval}
    if weight is not None:
        body["weight"] = weight
    with reported(), Server(url, api_key(data, key_file)) as server:
        made = server.ask("POST", path("collections", collection), body=body)
    if as_json:
        _print_json(made)
    else:
        typer.echo(f"Made {collection}. Put files in: narthex docs add {collection} PATH…")


@app.command()
def add(  # noqa: PLR0913 - a command's parameters are its options
    collection: Collection,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH", help="Files, or folders with all that is in them.")],
    *,
    include: Annotated[list[str] | None, typer.Option(help="Of folders only these files, e.g. '*.md'.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Of folders not these, e.g. 'drafts/*'.")] = None,
    description: Annotated[str, typer.Option(help="Of each of them.")] = "",
    chunk_size: Annotated[
        int | None, typer.Option(min=1, help="Most characters of a chunk.  \\[default: the model's]")
    ] = None,
    mode: Annotated[
        Literal["structure", "windows"],
        typer.Option(help="structure: cut at headings, paragraphs, sentences. windows: just so."),
    ] = "structure",
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    data: Data = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Put files into a collection, and wait until they can be found.

    A file that is there already, and has not changed, is skipped; one that has changed takes the place of its former
    version. A document is called after its file, with the folder it was named by: docs/guide/a.md becomes
    docs:guide:a.md. Hidden files, symbolic links, node_modules and the like are left out.

    Ctrl-C stops the sending. What the server has already, it goes on with: see narthex docs jobs.

    Exit code 1: some files failed; they are listed with the reasons.

    Examples:
      narthex docs add handbook ./docs
      narthex docs add handbook ./src --include '*.py' --exclude 'tests/*'
      narthex docs add handbook report.pdf --chunk-size 800
    """
    options = {"mode": mode} | ({"description": description} if description else {})
    if chunk_size is not None:
        options["chunkSize"] = str(chunk_size)
    with reported(), Server(url, api_key(data, key_file)) as server:
        files = files_in(paths, include=include or (), exclude=exclude or ())
        adding = Adding(server, collection, options)
        try:
            with _progress() as tell:
                became = adding.run(files, count=len(files), tell=tell)
        except KeyboardInterrupt:
            typer.echo(
                f"\nStopped sending. The server goes on with {adding.under_way} files: narthex docs jobs {collection}",
                err=True,
            )
            raise typer.Exit(130) from None
    _tell_became(became, as_json=as_json)


@app.command()
def search(  # noqa: PLR0913 - likewise
    collection: Collection,
    words: Annotated[str, typer.Argument(help="What to look for.")],
    *,
    n: Annotated[int, typer.Option("-n", min=1, max=50, help="How many chunks.")] = 5,
    document: Annotated[list[str] | None, typer.Option(help="Only in this document.")] = None,
    retrieval: Annotated[
        Literal["hybrid", "vector", "keyword"] | None,
        typer.Option(help="By meaning and words, by meaning, or by words.  \\[default: as the collection is searched]"),
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Tell why each was found, and what was left out.")] = False,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    data: Data = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Find the chunks that a chat would be given.

    Example: narthex docs search handbook "notice period" --explain
    """
    body: dict[str, Any] = {"query": words, "n": n, "explain": explain}
    if document:
        body["documents"] = document
    if retrieval is not None:
        body["retrieval"] = retrieval
    with reported(), Server(url, api_key(data, key_file)) as server:
        answer = server.ask("POST", path("collections", collection, "search"), body=body)
    if as_json:
        _print_json(answer)
    else:
        _tell_found(answer)


@app.command()
def show(
    collection: Collection,
    document: Annotated[
        str | None, typer.Argument(help="One document of it; its documents are listed without.")
    ] = None,
    *,
    content: Annotated[bool, typer.Option("--content", help="Print the document's text and nothing else.")] = False,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    data: Data = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Show a collection's documents, or one of them."""
    with reported(), Server(url, api_key(data, key_file)) as server:
        if document is None:
            found = server.ask("GET", path("collections", collection, "documents"))["documents"]
        else:
            query = {"content": "true"} if content else None
            found = server.ask("GET", path("collections", collection, "documents", document), query=query)
    if as_json:
        _print_json(found)
    elif document is None:
        fields = ("key", "mediaType", "characters", "chunks", "createdAt")
        _print_table(("Document", "Type", "Characters", "Chunks", "Stored"), found, fields)
    elif content:
        typer.echo(found["content"], nl=False)
    else:
        for name, value in found.items():
            typer.echo(f"{name}: {value}")


@app.command("rm")
def remove(
    collection: Collection,
    documents: Annotated[list[str], typer.Argument(metavar="DOCUMENT", help="Their keys.")],
    *,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Remove documents from a collection, with all that was made of them."""
    with reported(), Server(url, api_key(data, key_file)) as server:
        for document in documents:
            server.ask("DELETE", path("collections", collection, "documents", document))
            typer.echo(f"Removed {document}.")


@app.command()
def delete(
    collection: Collection,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Delete a collection with all its documents."""
    with reported(), Server(url, api_key(data, key_file)) as server:
        server.ask("GET", path("collections", collection))
        if not yes:
            typer.confirm(f"Delete {collection} and all its documents?", abort=True)
        server.ask("DELETE", path("collections", collection))
    typer.echo(f"Deleted {collection}.")


@app.command()
def jobs(
    collection: Collection,
    *,
    cancel: Annotated[str | None, typer.Option(metavar="JOB", help="Cancel this one.")] = None,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    data: Data = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Show what becomes of uploads, rebuilds and imports; newest first."""
    with reported(), Server(url, api_key(data, key_file)) as server:
        if cancel is not None:
            server.ask("DELETE", path("collections", collection, "jobs", cancel))
        found = server.ask("GET", path("collections", collection, "jobs"))["jobs"]
    if as_json:
        _print_json(found)
        return
    rows = [job | {"percent": f"{job['percent']} %", "what": job["error"] or job["message"]} for job in found]
    fields = ("id", "kind", "documentKey", "state", "percent", "what")
    _print_table(("Job", "Kind", "Document", "State", "Done", ""), rows, fields)


app.command()(collection_life.rebuild)
app.command()(collection_life.export)
app.command("import")(collection_life.take_in)


# --- telling ---------------------------------------------------------------------------------------------------------


@contextmanager
def _progress() -> Iterator[Callable[[Standing], None]]:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[more]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    shown = console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=not shown, refresh_per_second=4) as bars:
        task = bars.add_task("files", total=None, more="")

        def tell(now: Standing) -> None:
            more = f"{now.texts} of {now.total} chunks, {now.texts_per_s:.0f} a second"
            bars.update(task, completed=now.files_done, total=now.files, more=more)

        yield tell


def _tell_became(became: Sequence[Became], *, as_json: bool) -> None:
    failed = [each for each in became if each.what in {"failed", "cancelled"}]
    if as_json:
        _print_json(became)
    else:
        count = {what: sum(each.what == what for each in became) for what in ("added", "unchanged")}
        chunks = sum(each.chunks for each in became)
        typer.echo(f"{count['added']} added ({chunks} chunks), {count['unchanged']} unchanged, {len(failed)} failed.")
        for each in became:
            for warning in each.warnings:
                typer.echo(f"  {each.file}: {warning}", err=True)
        for each in failed:
            typer.echo(f"  {each.file}: {each.error or 'The job was cancelled.'}", err=True)
    if failed:
        raise typer.Exit(1)


def _tell_found(answer: dict[str, Any]) -> None:
    console = Console(highlight=False)
    for number, each in enumerate(answer["citations"], start=1):
        page = f", page {each['page']}" if each["page"] else ""
        scores = {name: score for name, score in each["scores"].items() if score is not None}
        told = ", ".join(f"{name} {score:.3f}" for name, score in scores.items())
        console.print(Text(f"{number}. {each['documentKey']}{page} ({told})", style="bold"))
        quote = " ".join(each["quote"].split())
        console.print(Text(quote if len(quote) <= _SHOWN_CHARS else quote[: _SHOWN_CHARS - 1] + "…"))
    if not answer["citations"]:
        console.print("Nothing was found.")
    for warning in answer["warnings"]:
        console.print(Text(f"Warning: {warning}"))
    if (why := answer.get("explain")) is not None:
        console.print(Text(f"Search: {why['retrieval']}, weight {why['weight']:g}; words: {', '.join(why['words'])}"))
        for left in why["left"]:
            console.print(Text(f"Left out ({left['why']}): {left['documentKey']}, chunk {left['chunkIndex']}"))


def _print_json(value: Any) -> None:
    typer.echo(msgspec.json.encode(value))


def _print_table(columns: Sequence[str], rows: Sequence[dict[str, Any]], fields: Sequence[str]) -> None:
    table = Table(*columns, box=None, header_style="bold")
    for row in rows:
        table.add_row(*(Text(str(row[field] if row[field] is not None else "")) for field in fields))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200
    console.print(table)
