"""What a file is. Its content decides; its name, and what the sender calls it, only choose among kinds of text."""

import re
import zipfile
from pathlib import Path, PurePath
from typing import Final, Literal

from narthex.core.errors import InvalidRequest, UnsupportedMediaType
from narthex.retrieval.chunking.layout import Kind
from narthex.retrieval.extract.charset import is_binary, marked
from narthex.retrieval.extract.extracted import PARAM

Form = Literal["pdf", "docx", "html", "markdown", "rst", "table", "json", "notebook", "lines", "python", "code", "text"]

TAKEN: Final = (
    "PDF, DOCX, HTML, Markdown, reStructuredText, CSV, TSV, JSON, JSON Lines, notebooks, source code and plain text"
)
DOCX_TYPE: Final = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
HEAD_BYTES: Final = 64 * 1024

MEDIA_TYPES: Final[dict[Form, str]] = {
    "pdf": "application/pdf",
    "docx": DOCX_TYPE,
    "html": "text/html",
    "markdown": "text/markdown",
    "rst": "text/x-rst",
    "table": "text/csv",
    "json": "application/json",
    "notebook": "application/x-ipynb+json",
    "lines": "application/jsonl",
    "python": "text/x-python",
    "code": "text/x-source",
    "text": "text/plain",
}
KINDS: Final[dict[Form, Kind]] = {
    "pdf": "text",
    "docx": "markdown",
    "html": "markdown",
    "markdown": "markdown",
    "rst": "rst",
    "table": "table",
    "json": "code",
    "notebook": "markdown",
    "lines": "records",
    "python": "python",
    "code": "code",
    "text": "text",
}
"""How the text that is drawn from each is cut."""

_BY_SUFFIX: Final[dict[str, Form]] = {
    **dict.fromkeys((".html", ".htm", ".xhtml"), "html"),
    **dict.fromkeys((".md", ".markdown", ".mkd", ".mdown", ".mdx", ".qmd", ".rmd"), "markdown"),
    **dict.fromkeys((".rst", ".rest"), "rst"),
    **dict.fromkeys((".csv", ".tsv", ".tab"), "table"),
    **dict.fromkeys((".json", ".geojson", ".webmanifest"), "json"),
    ".ipynb": "notebook",
    **dict.fromkeys((".jsonl", ".ndjson"), "lines"),
    **dict.fromkeys((".py", ".pyi", ".pyw"), "python"),
    **dict.fromkeys(
        (
            *(
                ".c",
                ".h",
                ".cc",
                ".cpp",
                ".cxx",
                ".hpp",
                ".hh",
                ".cs",
                ".java",
                ".kt",
                ".kts",
                ".scala",
                ".swift",
                ".m",
            ),
            *(
                ".go",
                ".rs",
                ".js",
                ".mjs",
                ".cjs",
                ".jsx",
                ".ts",
                ".tsx",
                ".vue",
                ".svelte",
                ".php",
                ".rb",
                ".pl",
                ".pm",
            ),
            *(
                ".sh",
                ".bash",
                ".zsh",
                ".fish",
                ".ps1",
                ".bat",
                ".lua",
                ".r",
                ".jl",
                ".hs",
                ".ml",
                ".mli",
                ".ex",
                ".exs",
            ),
            *(
                ".erl",
                ".clj",
                ".lisp",
                ".el",
                ".scm",
                ".sql",
                ".proto",
                ".zig",
                ".nim",
                ".dart",
                ".pas",
                ".f90",
                ".asm",
            ),
            *(".s", ".cu", ".cl", ".glsl", ".css", ".scss", ".less", ".cmake", ".mk", ".gradle", ".tf", ".nix", ".pyx"),
            *(".yaml", ".yml", ".toml", ".ini", ".cfg", ".conf", ".properties", ".diff", ".patch"),
        ),
        "code",
    ),
}
_BY_TYPE: Final[dict[str, Form]] = {
    "text/html": "html",
    "application/xhtml+xml": "html",
    "text/markdown": "markdown",
    "text/x-markdown": "markdown",
    "text/x-rst": "rst",
    "text/prs.fallenstein.rst": "rst",
    "text/csv": "table",
    "text/tab-separated-values": "table",
    "application/json": "json",
    "application/x-ipynb+json": "notebook",
    "application/jsonl": "lines",
    "application/x-ndjson": "lines",
    "application/x-jsonlines": "lines",
    "text/x-python": "python",
    "text/x-source": "code",
    "application/pdf": "pdf",
    DOCX_TYPE: "docx",
}
_HTML_BEGINS = re.compile(
    rb"(?:\xef\xbb\xbf)?(?>\s+|<!--.{0,2000}?-->|<\?xml[^>]{0,200}\?>)*+<(?:!doctype\s+html|html[\s>])",
    re.IGNORECASE | re.DOTALL,
)
_HTML_TAG = re.compile(
    rb"</?(?:p|div|span|a|h[1-6]|body|head|title|table|tr|td|ul|ol|li|br|em|strong|pre|img)[\s>/]", re.IGNORECASE
)
_BINARIES: Final = (
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "An old or encrypted Office file"),
    (b"{\\rtf", "RTF"),
    (b"%!PS", "PostScript"),
)
_OFFICE: Final = {"xl/": "A spreadsheet", "ppt/": "A presentation"}


def kind_of(media_type: str, *, name: str = "") -> Kind:
    """How a text is cut that is of this type and comes from a file of this name."""
    return KINDS[_told(name, media_type)]


def form_of(path: Path, head: bytes, *, name: str, media_type: str | None) -> Form:
    """What the file is; `head` are its first bytes.

    Raises:
        UnsupportedMediaType: nothing here reads it.
    """
    if b"%PDF-" in head[:1024]:
        return "pdf"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zipped(path)
    for begin, what in _BINARIES:
        if head.startswith(begin):
            raise _unsupported(what)
    if is_binary(head):
        raise _unsupported("This file")
    return _text_form(head, name, media_type)


def _text_form(head: bytes, name: str, media_type: str | None) -> Form:
    told = _told(name, media_type or "")
    if told in {"markdown", "rst", "python", "code"}:
        return told
    plain = head if marked(head) in {None, "utf-8-sig"} else head.replace(b"\0", b"").lstrip(b"\xff\xfe")
    if _HTML_BEGINS.match(plain):
        return "html"
    if told in {"html", "pdf", "docx"}:
        return "html" if told == "html" and _HTML_TAG.search(plain) else "text"
    if told == "text" and plain.startswith(b"#!") and b"python" in plain.partition(b"\n")[0]:
        return "python"
    return told


def _told(name: str, media_type: str) -> Form:
    by_suffix = _BY_SUFFIX.get(PurePath(name).suffix.lower())
    return by_suffix or _BY_TYPE.get(media_type.partition(";")[0].strip().lower(), "text")


def _zipped(path: Path) -> Form:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        raise InvalidRequest("The file is damaged: it begins as a ZIP archive and isn't one.", param=PARAM) from None
    if "word/document.xml" in names:
        return "docx"
    raise _unsupported(
        next((what for folder, what in _OFFICE.items() if any(map(folder.__eq__, _tops(names)))), "An archive")
    )


def _tops(names: list[str]) -> set[str]:
    return {name.partition("/")[0] + "/" for name in names}


def _unsupported(what: str) -> UnsupportedMediaType:
    return UnsupportedMediaType(f"{what} can't be read. Taken are: {TAKEN}.", param=PARAM)
