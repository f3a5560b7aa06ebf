"""Files that are text already: charsets, tables, JSON, programs, prose."""

import re

import msgspec

from narthex.retrieval.chunking.records import delimiter
from narthex.retrieval.extract.charset import decode
from narthex.retrieval.extract.extracted import Bounds, Extracted, tidied
from narthex.retrieval.extract.forms import KINDS, MEDIA_TYPES, Form
from narthex.retrieval.extract.notebook import notebook

_LONG_LINE_CHARS = 2000
_FIRST_HEADING = re.compile(r"^# +([^\n]{1,300})|^([^\s#>`~|-][^\n]{0,200})\n=+[ \t]*$", re.MULTILINE)


def plain(data: bytes, form: Form, bounds: Bounds) -> Extracted:
    """The text of a file that is one, as it is; JSON in a single line is laid out."""
    text, warning = decode(data)
    bounds.check(len(text))
    text = tidied(text)
    kind, media_type, title = KINDS[form], MEDIA_TYPES[form], ""
    if form == "notebook" and (cells := notebook(text, bounds)) is None:
        form, kind, media_type = "json", KINDS["json"], MEDIA_TYPES["json"]
    elif form == "notebook":
        text = str(cells)
    if form == "json":
        text = _laid_out(text)
        bounds.check(len(text))
    elif form == "table" and delimiter(text) == "\t":
        media_type = "text/tab-separated-values"
    elif form == "markdown" and (found := _FIRST_HEADING.search(text, 0, 20_000)):
        title = (found[1] or found[2]).strip(" #")
    return Extracted(text=text, kind=kind, media_type=media_type, title=title, warnings=(warning,) if warning else ())


def _laid_out(text: str) -> str:
    """JSON with its line breaks, so that there are places to cut; anything else as it is."""
    if max(map(len, text[:100_000].split("\n", 1000)), default=0) < _LONG_LINE_CHARS:
        return text
    try:
        return msgspec.json.format(text, indent=1)
    except (msgspec.DecodeError, RecursionError):
        return text
