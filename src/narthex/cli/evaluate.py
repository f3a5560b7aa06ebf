"""`narthex eval`: how well a collection's search finds what is known to answer a question."""

import random
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from narthex.cli.keys import DEFAULT_DATA, Data, reported
from narthex.cli.server import DEFAULT_URL, KeyFile, Server, Url, api_key, path
from narthex.core.documents import Retrieval
from narthex.core.errors import InvalidRequest
from narthex.retrieval.evaluation import DEPTH, Judged, read_questions
from narthex.retrieval.trial import Report, Shown, trial

app = typer.Typer(no_args_is_help=True, help="Measure how good answers are.")

_SENTENCE = re.compile(r"[^.!?\n]+[.!?]")
_FEWEST_WORDS, _MOST_WORDS = 6, 40


@app.callback()
def group() -> None:
    """Measure how good answers are."""


@app.command("docs")
def docs(
    collection: Annotated[str, typer.Argument(help="Its key.")],
    *,
    questions: Annotated[
        Path | None,
        typer.Option(help="A CSV file: question, document, and for a passage start and stop.  \\[default: made up]"),
    ] = None,
    made: Annotated[int, typer.Option(min=2, max=5000, help="How many to make up, where none are given.")] = 200,
    apply: Annotated[bool, typer.Option("--apply", help="Set the proposed weight.")] = False,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    data: Data = DEFAULT_DATA,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Ask a collection questions with known answers, by vectors, by keywords and by both, and propose a weight.

    Best is a file of your own users' questions, each with the document that answers it (50 or more):

        question,document
        How long is the warranty?,terms.pdf

    Without one, sentences of the documents are taken out as questions: their words stand in the passage that answers
    them, which flatters the keywords.

    The weight is chosen by one half of the questions; what is shown was measured on the other half.
    """
    console = Console(stderr=True)
    with reported(), Server(url, api_key(data, key_file)) as server:
        if questions is not None:
            with questions.open(encoding="utf-8-sig", newline="") as lines:
                asked = read_questions(lines)
        else:
            asked = _made_up(server, collection, made)
        report = _tried(server, collection, asked, console=console)
        if apply:
            server.ask("PUT", path("collections", collection), body=_weighted(server, collection, report.weight))
    if as_json:
        typer.echo(msgspec.json.encode(report))
    else:
        _show(report, collection, applied=apply)


def _tried(server: Server, collection: str, asked: Sequence[Judged], *, console: Console) -> Report:
    target = path("collections", collection, "search")

    def search(question: str, way: Retrieval, weight: float) -> list[Shown]:
        body: dict[str, Any] = {"query": question, "n": DEPTH, "retrieval": way}
        if way == "hybrid":
            body["weight"] = weight
        found = server.ask("POST", target, body=body)["citations"]
        return [Shown(document=each["documentKey"], start=each["start"], stop=each["end"]) for each in found]

    with _progress(console, "searching") as progress:
        return trial(asked, search, progress=progress)


@contextmanager
def _progress(console: Console, what: str) -> Iterator[Any]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task(what, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


def _made_up(server: Server, collection: str, wanted: int) -> list[Judged]:
    """Sentences of the documents, evenly over them; always the same for the same documents.

    Raises:
        InvalidRequest: there is too little text.
    """
    listed = server.ask("GET", path("collections", collection, "documents"))["documents"]
    draw = random.Random(3)  # noqa: S311 - a sample, no secret
    chosen = draw.sample(listed, min(len(listed), wanted))
    each = -(-wanted // max(1, len(chosen)))
    found: list[Judged] = []
    for document in chosen:
        target = path("collections", collection, "documents", document["key"])
        text = server.ask("GET", target, query={"content": "true"})["content"]
        sentences = [
            match for match in _SENTENCE.finditer(text) if _FEWEST_WORDS <= len(match[0].split()) <= _MOST_WORDS
        ]
        for match in draw.sample(sentences, min(each, len(sentences))):
            question = " ".join(match[0].split())
            found.append(Judged(question=question, document=document["key"], start=match.start(), stop=match.end()))
    if len(found) < 2:
        raise InvalidRequest(f"The collection {collection} has too few sentences to ask for.")
    return found[:wanted]


def _weighted(server: Server, collection: str, weight: float) -> dict[str, Any]:
    """The collection as it is, with another weight."""
    now = server.ask("GET", path("collections", collection))
    return {"model": now["model"], "description": now["description"], "retrieval": now["retrieval"], "weight": weight}


def _show(report: Report, collection: str, *, applied: bool) -> None:
    console = Console()
    columns = ("Search", "Recall@1", "@5", "@10", "nDCG@10", "95 %", "MRR", "p50", "p95")
    table = Table(*columns, box=None, header_style="bold")
    for row in report.outcomes:
        found = row.measures
        low, high = row.ndcg_10_interval
        scores = (found.recall_1, found.recall_5, found.recall_10, found.ndcg_10)
        name = f"hybrid, weight {report.weight:g}" if row.retrieval == "hybrid" else row.retrieval
        table.add_row(
            name,
            *(f"{score:.3f}" for score in scores),
            f"{low:.3f}-{high:.3f}",
            f"{found.mrr_10:.3f}",
            f"{row.p50_ms:.0f} ms",
            f"{row.p95_ms:.0f} ms",
        )
    console.print(table)
    low, high = report.lead_interval
    told = report.outcomes[0].measures.questions
    console.print(f"{told} questions; the weight was chosen by {report.chosen_by} others.", highlight=False)
    console.print(
        f"Hybrid leads the better of the two by {report.lead:+.3f} nDCG@10 ({low:+.3f} to {high:+.3f}).",
        highlight=False,
    )
    if applied:
        console.print(f"The weight of {collection} is now {report.weight:g}.", highlight=False)
    else:
        console.print(
            f"To use this weight, say --apply, or PUT it to the collection: {report.weight:g}.", highlight=False
        )
