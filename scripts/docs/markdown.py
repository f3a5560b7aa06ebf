"""The little Markdown that generated pages need."""

from collections.abc import Iterable, Sequence

NOTE = "<!-- Made by `.venv/bin/python scripts/docs`. Change the code, not this page. -->"


def page(title: str, *blocks: str) -> str:
    """A whole page; blocks are separated by an empty line."""
    return "\n\n".join([f"# {title}", NOTE, *filter(None, blocks)]) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table. A `|` in a cell is escaped."""
    lines = [_line(head), _line(["---"] * len(head)), *map(_line, rows)]
    return "\n".join(lines)


def code(text: object) -> str:
    """Text in code style; "" stays empty."""
    return f"`{text}`" if str(text) else ""


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
