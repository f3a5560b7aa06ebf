"""Reads one file, whatever it is."""

from pathlib import Path

from narthex.core.errors import InvalidRequest
from narthex.retrieval.extract.extracted import PARAM, Bounds, Extracted
from narthex.retrieval.extract.forms import HEAD_BYTES, form_of
from narthex.retrieval.extract.plain import plain

_BYTES_PER_CHARACTER = 4
"""At most, in any encoding of Unicode."""


def read(path: Path, *, name: str, media_type: str | None, bounds: Bounds) -> Extracted:
    """The text of a file.

    Parsers are imported when the first file needs them: most of what is given to us is text.

    Raises:
        UnsupportedMediaType: nothing here reads such files.
        InvalidRequest: it is damaged, protected, too long or empty, or has no text.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not head:
        raise InvalidRequest("The file is empty.", param=PARAM)
    form = form_of(path, head, name=name, media_type=media_type)
    if form == "pdf":
        from narthex.retrieval.extract.pdf import pdf  # noqa: PLC0415 - see above

        extracted = pdf(path, bounds)
    elif form == "docx":
        from narthex.retrieval.extract.docx import docx  # noqa: PLC0415

        extracted = docx(path, bounds)
    else:
        bounds.check(path.stat().st_size // _BYTES_PER_CHARACTER)
        data = path.read_bytes()
        if form == "html":
            from narthex.retrieval.extract.html import html  # noqa: PLC0415

            extracted = html(data, bounds)
        else:
            extracted = plain(data, form, bounds)
    if not extracted.text.strip():
        raise InvalidRequest("The file holds no text.", param=PARAM)
    return extracted
