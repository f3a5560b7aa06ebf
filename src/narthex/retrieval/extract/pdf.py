"""PDF to text, page by page; the document's outline gives the headings.

Nothing in the file is run: no forms, no scripts. Text that is only a picture of text is not read, which is told.
"""

import itertools
from pathlib import Path
from typing import Any, Final

import pypdfium2

from narthex.core.errors import InvalidRequest
from narthex.retrieval.chunking.layout import Heading, Page
from narthex.retrieval.extract.extracted import PARAM, Bounds, Extracted, tidied
from narthex.retrieval.extract.forms import KINDS, MEDIA_TYPES

NO_TEXT: Final = (
    "This PDF has no text layer: its pages are pictures. Have them recognised (OCR) first, and send what comes of it."
)
_MAX_HEADINGS = 5000
_MAX_DEPTH = 8
_MAX_TITLE = 300
_LISTED = 20
"""Pages named in a warning."""
_ENDS: Final = (".", "!", "?", ":", "\u2026", "\u3002")


def pdf(path: Path, bounds: Bounds) -> Extracted:
    """The text of a PDF.

    Raises:
        InvalidRequest: it is damaged, protected by a password, too long, or has no text layer.
    """
    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        protected = "password" in str(error).lower() or "security" in str(error).lower()
        message = "The PDF is protected by a password." if protected else "The PDF is damaged."
        raise InvalidRequest(message, param=PARAM) from None
    try:
        reading = _Reading(document, bounds)
        reading.pages()
        if not any(reading.lengths):
            raise InvalidRequest("No page of the PDF can be read." if reading.broken else NO_TEXT, param=PARAM)
        return Extracted(
            text="".join(reading.parts),
            kind=KINDS["pdf"],
            media_type=MEDIA_TYPES["pdf"],
            title=(document.get_metadata_value("Title") or "").strip()[:_MAX_TITLE],
            headings=tuple(reading.headings()),
            pages=tuple(Page(start=start, number=number) for number, start in enumerate(reading.starts, 1)),
            warnings=tuple(reading.warnings()),
        )
    finally:
        document.close()


class _Reading:
    """The pages of a document, one after the other."""

    def __init__(self, document: Any, bounds: Bounds) -> None:
        self._document = document
        self._bounds = bounds
        self.parts: list[str] = []
        self.starts: list[int] = []
        self.lengths: list[int] = []
        self.broken: list[int] = []
        self._place = 0

    def pages(self) -> None:
        total = len(self._document)
        for number in range(1, total + 1):
            text = self._page(number)
            if self.parts and text:
                self._put("\n\n" if self.parts[-1].endswith(_ENDS) else "\n")
            self.starts.append(self._place)
            self.lengths.append(len(text))
            self._put(text)
            self._bounds.check(self._place)
            self._bounds.progress(number, total)

    def headings(self) -> list[Heading]:
        """Of the document's outline: where the title stands on its page, or where the page begins."""
        found = []
        try:
            for item in itertools.islice(self._document.get_toc(max_depth=_MAX_DEPTH), _MAX_HEADINGS):
                target, title = item.get_dest(), " ".join(item.get_title().split())[:_MAX_TITLE]
                number = target.get_index() if target is not None else None
                if title and number is not None and 0 <= number < len(self.starts):
                    found.append(Heading(start=self._place_of(title, number), level=item.level + 1, title=title))
        except (pypdfium2.PdfiumError, UnicodeError, ValueError):
            return []  # an outline that can't be read costs the headings only
        found.sort(key=lambda heading: heading.start)
        return found

    def warnings(self) -> list[str]:
        empty = [number for number, length in enumerate(self.lengths, 1) if not length and number not in self.broken]
        told = []
        if empty:
            told.append(f"No text on {_listed(empty)}: such pages are blank, or pictures.")
        if self.broken:
            told.append(f"What is on {_listed(self.broken)} could not be read.")
        return told

    def _page(self, number: int) -> str:
        try:
            page = self._document[number - 1]
        except pypdfium2.PdfiumError:
            self.broken.append(number)
            return ""
        try:
            text_page = page.get_textpage()
            try:
                return _mended(text_page.get_text_range())
            finally:
                text_page.close()
        except pypdfium2.PdfiumError:
            self.broken.append(number)
            return ""
        finally:
            page.close()

    def _put(self, text: str) -> None:
        if text:
            self.parts.append(text)
            self._place += len(text)

    def _place_of(self, title: str, number: int) -> int:
        start = self.starts[number]
        text = self._text_of(number)
        return start + max(text.find(title), 0)

    def _text_of(self, number: int) -> str:
        if self._texts is None:
            self._texts = "".join(self.parts)
        return self._texts[self.starts[number] : self.starts[number] + self.lengths[number]]

    _texts: str | None = None


def _mended(text: str) -> str:
    """Without the marks of words that were divided at a line's end, which are put together again."""
    text = tidied(text)
    for mark in ("\x02", "\ufffe", "\u00ad"):
        text = text.replace(mark + "\n", "").replace(mark, "")
    return text.strip()


def _listed(pages: list[int]) -> str:
    """As `page 3`, `pages 1, 2, 7`."""
    named = ", ".join(map(str, pages[:_LISTED])) + (f" and {len(pages) - _LISTED} more" if len(pages) > _LISTED else "")
    return f"page {named}" if len(pages) == 1 else f"pages {named}"
