"""`narthex models`: what is installed, what can be, and installing it."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn
from rich.table import Table

from narthex.core.errors import NarthexError
from narthex.engine.models.catalogue import CATALOGUE
from narthex.engine.models.manifest import Manifest
from narthex.engine.models.pull import pull
from narthex.engine.models.store import ModelStore
from narthex.retrieval import onnx_graph, sentence_bert

app = typer.Typer(help="The models on this machine.", no_args_is_help=True)

Data = Annotated[Path, typer.Option(help="The data folder.")]
DEFAULT_DATA = Path("narthex-data")

_MB = 1_000_000


class _Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `list`."""

    name: str
    kind: str
    size_bytes: int
    licence: str | None
    installed: bool
    source: str


def _rows(store: ModelStore) -> list[_Row]:
    installed = {
        found.name: _Row(
            name=found.name,
            kind=found.kind,
            size_bytes=found.size_bytes,
            licence=found.licence,
            installed=True,
            source=found.source,
        )
        for found in store.installed()
    }
    available = {
        row.name: _Row(
            name=row.name,
            kind=row.kind,
            size_bytes=row.size_bytes,
            licence=row.licence,
            installed=False,
            source=f"{row.package}=={row.version}",
        )
        for row in CATALOGUE.values()
    }
    return list((available | installed).values())


@app.command("list")
def list_models(
    data: Data = DEFAULT_DATA, as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False
) -> None:
    """Show the installed models and those of the catalogue."""
    rows = _rows(ModelStore(data / "models"))
    if as_json:
        typer.echo(msgspec.json.encode(rows))
        return
    table = Table("Name", "Kind", "Size", "Licence", "Installed", box=None, header_style="bold")
    for row in rows:
        size = f"{row.size_bytes / _MB:.0f} MB"
        table.add_row(row.name, row.kind, size, row.licence or "?", "yes" if row.installed else "no")
    Console().print(table)


@app.command("pull")
def pull_model(
    model: Annotated[str, typer.Argument(help="A catalogue name, hf:owner/repo[/file.gguf][@revision], or a .gguf.")],
    data: Data = DEFAULT_DATA,
    verify: Annotated[bool, typer.Option("--verify", help="Read an installed model whole.")] = False,
) -> None:
    """Install a model, or see that it is whole."""
    models_dir = data / "models"
    try:
        (found,) = pulled_with_progress([model], models_dir, verify=verify)
        folder = models_dir / found.name
        if (folder / sentence_bert.WEIGHTS).is_file():  # now, so that the first request need not wait for it
            onnx_graph.ensure(folder)
    except NarthexError as error:
        typer.echo(f"Error: {error.message}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{found.name} is installed ({found.size_bytes / _MB:.0f} MB, {found.licence or 'licence unknown'}).")


def pulled_with_progress(models: Sequence[str], models_dir: Path, *, verify: bool = False) -> list[Manifest]:
    """Install models unless they are there, side by side, each with a progress bar while it comes.

    Raises:
        NarthexError: what went wrong with the first that could not be installed.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with (
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars,
        ThreadPoolExecutor(max_workers=max(1, len(models))) as threads,
    ):

        def one(model: str) -> Manifest:
            told = _Bar(bars, model) if console.is_terminal else _PlainProgress(model)
            return pull(model, models_dir, on_progress=told, verify=verify)

        return list(threads.map(one, models))


class _Bar:
    """A model's bar, from its first byte on: one that is installed already shows none."""

    def __init__(self, bars: Progress, model: str) -> None:
        self._bars = bars
        self._model = model
        self._task: TaskID | None = None

    def __call__(self, done: int, total: int) -> None:
        if self._task is None:
            self._task = self._bars.add_task(self._model, total=total)
        self._bars.update(self._task, completed=done, total=total)


class _PlainProgress:
    """A line every few seconds, for logs."""

    def __init__(self, model: str, *, every_s: float = 5) -> None:
        self._model = model
        self._every_s = every_s
        self._next = 0.0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now >= self._next or done == total:
            self._next = now + self._every_s
            typer.echo(f"{self._model}: {done / _MB:.0f} of {total / _MB:.0f} MB", err=True)
