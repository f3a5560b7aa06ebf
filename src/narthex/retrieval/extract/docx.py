"""DOCX to text: headings and lists as in Markdown, rows of tables on lines; deleted and hidden text left out.

Source: ECMA-376 part 1, section 17 (WordprocessingML). The parts of the archive are read as streams and never unpacked
to the disk; a declaration of entities, which no Word file has, is refused.
"""

import re
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final
from xml.parsers import expat

from narthex.core.errors import InvalidRequest
from narthex.retrieval.extract.extracted import PARAM, Bounds, Extracted
from narthex.retrieval.extract.forms import KINDS, MEDIA_TYPES
from narthex.retrieval.extract.layout import Blocks

MAX_PART_BYTES = 512 * 1024 * 1024
"""Of one part, unpacked: some hundred times what a long book has."""
_PIECE_BYTES = 256 * 1024
_W: Final = "http://schemas.openxmlformats.org/wordprocessingml/2006/main "
_STRICT: Final = "http://purl.oclc.org/ooxml/wordprocessingml/main "
_TITLE: Final = "http://purl.org/dc/elements/1.1/ title"
_FALLBACK: Final = "http://schemas.openxmlformats.org/markup-compatibility/2006 Fallback"
_HEADING = re.compile(r"heading ([1-9])", re.IGNORECASE)
_MAX_TITLE = 300
_DAMAGES: Final = (
    *(zipfile.BadZipFile, zlib.error, expat.ExpatError, NotImplementedError, EOFError, RuntimeError, ValueError),
    KeyError,
)
"""What `zipfile` and `expat` raise of files that are none of theirs."""

Start = Callable[[str, dict[str, str]], None]
End = Callable[[str], None]


def docx(path: Path, bounds: Bounds) -> Extracted:
    """The text of a document.

    Raises:
        InvalidRequest: it is damaged or too long, or unpacks to more than a document has.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            levels = _Styles()
            if "word/styles.xml" in names:
                _parse(archive, "word/styles.xml", levels.start)
            title = _Title()
            if "docProps/core.xml" in names:
                _parse(archive, "docProps/core.xml", title.start, title.end, title.text)
            blocks = Blocks(bounds)
            for part in ("word/document.xml", "word/footnotes.xml", "word/endnotes.xml"):
                if part in names:
                    body = _Body(blocks, levels.found)
                    _parse(archive, part, body.start, body.end, body.text)
                    blocks.end_block()
    except _DAMAGES:
        raise InvalidRequest("The DOCX file is damaged.", param=PARAM) from None
    return Extracted(
        text=blocks.text(), kind=KINDS["docx"], media_type=MEDIA_TYPES["docx"], title=title.found[:_MAX_TITLE]
    )


def _parse(
    archive: zipfile.ZipFile,
    part: str,
    start: Start,
    end: End = lambda _: None,
    text: Callable[[str], None] = lambda _: None,
) -> None:
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = _refuse
    unpacked = 0
    with archive.open(part) as stream:
        while piece := stream.read(_PIECE_BYTES):
            unpacked += len(piece)
            if unpacked > MAX_PART_BYTES:
                raise InvalidRequest("The DOCX file unpacks to more than a document has.", param=PARAM)
            parser.Parse(piece, False)  # noqa: FBT003 - as expat has it
    parser.Parse(b"", True)  # noqa: FBT003


def _refuse(*_: object) -> None:
    raise InvalidRequest("The DOCX file declares a document type, as no Word file does.", param=PARAM)


def _of_word(name: str) -> str:
    """The element's own name if it is one of WordprocessingML's, else ""."""
    return name[len(_W) :] if name.startswith(_W) else name[len(_STRICT) :] if name.startswith(_STRICT) else ""


def _value(attributes: dict[str, str], name: str = "val") -> str:
    return attributes.get(_W + name) or attributes.get(_STRICT + name) or ""


class _Title:
    def __init__(self) -> None:
        self.found = ""
        self._inside = False

    def start(self, name: str, _: dict[str, str]) -> None:
        self._inside = name == _TITLE

    def end(self, _: str) -> None:
        self._inside = False

    def text(self, data: str) -> None:
        if self._inside:
            self.found += data


class _Styles:
    """Which style is a heading of which level: their ids differ from language to language, their names don't."""

    def __init__(self) -> None:
        self.found: dict[str, int] = {}
        self._style = ""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        tag = _of_word(name)
        if tag == "style":
            self._style = _value(attributes, "styleId")
        elif tag == "name" and self._style:
            named = _value(attributes)
            if found := _HEADING.fullmatch(named):
                self.found[self._style] = int(found[1])
            elif named.lower() == "title":
                self.found[self._style] = 1


class _Body:
    """Writes paragraphs as they end."""

    def __init__(self, blocks: Blocks, levels: dict[str, int]) -> None:
        self._blocks = blocks
        self._levels = levels
        self._in_text = False
        self._hidden = False
        self._left_out = 0
        self._cells = 0
        self._starts: dict[str, Callable[[dict[str, str]], None]] = {
            "p": lambda _: self._blocks.open(""),
            "r": lambda _: setattr(self, "_hidden", False),
            "t": lambda _: setattr(self, "_in_text", True),
            "vanish": lambda attributes: setattr(self, "_hidden", _value(attributes) not in {"0", "false"}),
            "tab": lambda _: self._write(" "),
            "br": lambda _: self._blocks.end_line() if not self._cells else self._write(" "),
            "cr": lambda _: self._blocks.end_line() if not self._cells else self._write(" "),
            "noBreakHyphen": lambda _: self._write("-"),
            "numPr": lambda _: self._blocks.open("- ") if not self._cells else None,
            "pStyle": lambda attributes: self._styled(_value(attributes)),
            "outlineLvl": lambda attributes: self._outlined(_value(attributes)),
            "tc": lambda _: self._cell(1),
            "tbl": lambda _: self._blocks.end_block() if not self._cells else None,
        }
        self._ends: dict[str, Callable[[], None]] = {
            "t": lambda: setattr(self, "_in_text", False),
            "p": lambda: self._write(" ") if self._cells else self._blocks.end_block(),
            "tc": lambda: self._cell(-1),
            "tr": lambda: self._blocks.end_line() if not self._cells else None,
            "tbl": lambda: self._blocks.end_block() if not self._cells else None,
        }

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == _FALLBACK or self._left_out:
            self._left_out += 1
        elif (action := self._starts.get(_of_word(name))) is not None:
            action(attributes)

    def end(self, name: str) -> None:
        if self._left_out:
            self._left_out -= 1
        elif (action := self._ends.get(_of_word(name))) is not None:
            action()

    def text(self, data: str) -> None:
        if self._in_text and not self._left_out:
            self._write(data)

    def _write(self, data: str) -> None:
        if not self._hidden:
            self._blocks.write(data)

    def _cell(self, step: int) -> None:
        self._cells += step
        if step < 0 and self._cells == 0:
            self._blocks.write(" | ")

    def _styled(self, style: str) -> None:
        if (level := self._levels.get(style)) and not self._cells:
            self._blocks.open("#" * min(level, 6) + " ")

    def _outlined(self, level: str) -> None:
        if level.isdigit() and int(level) < 9 and not self._cells:  # 9 is the body's
            self._blocks.open("#" * min(int(level) + 1, 6) + " ")
