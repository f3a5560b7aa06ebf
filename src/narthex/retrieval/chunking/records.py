"""The rows of a table, and lines that are things of their own."""

import csv
import re
from collections.abc import Iterator

from narthex.retrieval.chunking.structure import Outline

MAX_COLUMNS_CHARS = 500
"""Of a table's header: it goes with each of its chunks."""
_DELIMITERS = ",;\t|"
_LINE = re.compile(r"[^\n]*\n?")
_MAX_FIELD_CHARS = 1024 * 1024


def table(text: str) -> Outline:
    """Rows, some of them of several lines (in quotes); the first names the columns."""
    records = _rows(text)
    first = text[: records[1] if len(records) > 1 else len(text)].strip()
    return Outline(lined=True, records=records, columns=first[:MAX_COLUMNS_CHARS] if len(records) > 1 else "")


def lines(text: str) -> Outline:
    """A line, a record."""
    return Outline(lined=True, records=[match.start() for match in _LINE.finditer(text) if match.end() > match.start()])


def delimiter(text: str) -> str:
    """What stands between the fields of a row: whatever the first lines have as often, and most often."""
    first = [line for line in text[:20_000].splitlines()[:20] if line.strip()]

    def fit(sign: str) -> tuple[int, int]:
        counts = [line.count(sign) for line in first]
        most_common = max(set(counts), key=counts.count, default=0)
        return (counts.count(most_common) if most_common else 0), most_common

    return max(_DELIMITERS, key=fit)


def _rows(text: str) -> list[int]:
    """Where each row begins; if a quote is never closed, where each line does."""
    starts, place = [], 0
    lengths: list[int] = []

    def fed() -> Iterator[str]:
        for match in _LINE.finditer(text):
            if match.end() > match.start():
                lengths.append(match.end() - match.start())
                yield match[0]

    reader = csv.reader(fed(), delimiter=delimiter(text), strict=False)
    limit = csv.field_size_limit(_MAX_FIELD_CHARS)
    try:
        read = 0
        for _ in reader:
            starts.append(place)
            place += sum(lengths[read:])
            read = len(lengths)
    except csv.Error:
        return list(lines(text).records)
    finally:
        csv.field_size_limit(limit)
    return starts
