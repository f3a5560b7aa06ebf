"""Jupyter notebooks to text: prose as it is, code in fences, without what came of running it.

Source: nbformat 4, "The notebook format".
"""

import msgspec

from narthex.retrieval.extract.extracted import Bounds
from narthex.retrieval.extract.layout import fenced


class _Cell(msgspec.Struct):
    cell_type: str
    source: str | list[str] = ""


class _Kernel(msgspec.Struct):
    language: str = ""


class _About(msgspec.Struct):
    kernelspec: _Kernel = msgspec.field(default_factory=_Kernel)


class _Notebook(msgspec.Struct):
    cells: list[_Cell]
    metadata: _About = msgspec.field(default_factory=_About)


def notebook(text: str, bounds: Bounds) -> str | None:
    """The cells of a notebook, as Markdown; None if it is none.

    Raises:
        InvalidRequest: they are too long.
    """
    try:
        it = msgspec.json.decode(text, type=_Notebook)
    except (msgspec.DecodeError, RecursionError):
        return None
    language = it.metadata.kernelspec.language.split()[:1]
    written = []
    for cell in it.cells:
        source = cell.source if isinstance(cell.source, str) else "".join(cell.source)
        if source.strip():
            written.append(fenced(source, *language) if cell.cell_type == "code" else source.strip("\n"))
    found = "\n\n".join(written)
    bounds.check(len(found))
    return found
