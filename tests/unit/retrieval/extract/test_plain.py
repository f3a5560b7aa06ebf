"""Files that are text already; what a file is; in which charset."""

import codecs
import io
import zipfile
from pathlib import Path

import pytest

from narthex.core.errors import InvalidRequest, UnsupportedMediaType
from narthex.retrieval.extract.charset import decode
from narthex.retrieval.extract.extracted import Bounds, Extracted
from narthex.retrieval.extract.forms import kind_of
from narthex.retrieval.extract.read import read

RUSSIAN = (
    "\u0411\u044b\u043b\u043e \u044d\u0442\u043e \u0432\u0435\u0441\u043d\u043e\u0439, "
    "\u0438 \u0432\u0441\u0451 \u0446\u0432\u0435\u043b\u043e. "
) * 20
"""It was in spring, and all was in bloom."""
JAPANESE = (
    "\u3053\u308c\u306f\u65e5\u672c\u8a9e\u306e\u6587\u7ae0\u3067\u3059\u3002"
    "\u6771\u4eac\u306b\u884c\u304d\u307e\u3057\u305f\u3002"
) * 20
"""This is a text in Japanese. I went to Tokyo."""


def extracted(
    data: bytes, folder: Path, name: str = "file", media_type: str | None = None, limit: int = 10**6
) -> Extracted:
    file = folder / "upload"
    file.write_bytes(data)
    return read(file, name=name, media_type=media_type, bounds=Bounds(max_characters=limit))


# --- what a file is ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "media_type", "data", "found"),
    [
        ("a.txt", None, b"words", "text/plain"),
        ("README", None, b"words", "text/plain"),
        ("a.md", None, b"# T", "text/markdown"),
        ("A.MD", "text/plain", b"# T", "text/markdown"),
        ("a", "text/markdown; charset=utf-8", b"# T", "text/markdown"),
        ("a.md", None, b"<!DOCTYPE html>\n# T", "text/markdown"),
        ("a.html", None, b"<p>a", "text/html"),
        ("a.html", None, b"no tags < at > all", "text/plain"),
        ("a.txt", None, b" \n<!-- c --><?xml?><!doctype HTML><p>a", "text/html"),
        ("a.txt", None, b"\xef\xbb\xbf<html><p>a", "text/html"),
        ("a.txt", None, "<html><p>a".encode("utf-16"), "text/html"),
        ("a.csv", None, b"<html><p>please log in", "text/html"),
        ("a", "text/html", b"<b>a</b> <p>a", "text/html"),
        ("a.rst", None, b"T\n=\n", "text/x-rst"),
        ("a.csv", None, b"a,b\n1,2", "text/csv"),
        ("a.tsv", None, b"a\tb\n1\t2", "text/tab-separated-values"),
        ("a.json", None, b"{}", "application/json"),
        ("a.jsonl", None, b"{}\n{}", "application/jsonl"),
        ("a.py", None, b"a = 1", "text/x-python"),
        ("script", None, b"#!/usr/bin/env python3\na = 1", "text/x-python"),
        ("script", None, b"#!/bin/sh\npython", "text/plain"),
        ("a.rs", None, b"fn a() {}", "text/x-source"),
        ("a.pdf", "application/pdf", b"no PDF", "text/plain"),
        ("a.docx", None, b"no DOCX", "text/plain"),
    ],
)
def test_content_tells_what_a_file_is_and_its_name_which_text(
    name: str, media_type: str | None, data: bytes, found: str, tmp_path: Path
) -> None:
    assert extracted(data, tmp_path, name, media_type).media_type == found


def zipped(*names: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name in names:
            archive.writestr(name, "a")
    return made.getvalue()


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "This file"),
        (b"\x7fELF\x02\x01\x01" + bytes(100), "This file"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100), "An old or encrypted Office file"),
        (b"{\\rtf1 words}", "RTF"),
        (b"%!PS-Adobe-3.0", "PostScript"),
        (zipped("a.txt"), "An archive"),
        (zipped(), "An archive"),
        (zipped("xl/workbook.xml"), "A spreadsheet"),
        (zipped("ppt/presentation.xml"), "A presentation"),
    ],
)
def test_what_is_not_read_is_told_what_is(data: bytes, what: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedMediaType) as caught:
        extracted(data, tmp_path, "a.pdf", "application/pdf")
    assert caught.value.message.startswith(
        f"{what} can't be read. Taken are: PDF, DOCX, HTML, Markdown, reStructuredText, CSV"
    )
    assert caught.value.param == "file"


@pytest.mark.parametrize(
    ("data", "message"), [(b"", "is empty"), (b" \n\t", "holds no text"), (b"\xef\xbb\xbf", "no text")]
)
def test_complaint_30_an_empty_file_is_an_error_at_once(data: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=message):
        extracted(data, tmp_path)


def test_stored_texts_are_cut_as_the_file_that_they_came_from() -> None:
    assert kind_of("text/html") == "markdown"
    assert kind_of("text/plain", name="a.py") == "python"
    assert kind_of("text/csv; header=present") == "table"
    assert kind_of("application/octet-stream") == "text"


# --- texts ---------------------------------------------------------------------------------------------------------


def test_line_ends_become_one_and_nul_goes(tmp_path: Path) -> None:
    assert extracted(b"a\r\nb\rc\n" + b"d" * 300 + b"\0", tmp_path).text == "a\nb\nc\n" + "d" * 300


def test_json_in_one_line_is_laid_out(tmp_path: Path) -> None:
    line = b'{"a":[' + b"1," * 2000 + b'2],"b":{"c":"d"}}'
    assert extracted(line, tmp_path, "a.json").text.count("\n") > 2000
    assert extracted(b'{"a": 1}', tmp_path, "a.json").text == '{"a": 1}'
    broken = b"[" + b"1," * 2000
    assert extracted(broken, tmp_path, "a.json").text == broken.decode()
    deep = b"[" * 100_000
    assert extracted(deep, tmp_path, "a.json").text == deep.decode()


NOTEBOOK = (
    b'{"cells": [{"cell_type": "markdown", "source": ["# Study\\n", "Words."]}, {"cell_type": "code", "source": ""},'
    b'{"cell_type": "code", "source": "print(1)\\n", "outputs": [{"data": {"image/png": "AAAA"}}]}],'
    b'"metadata": {"kernelspec": {"language": "python", "name": "python3"}}}'
)


def test_a_notebook_is_its_cells_without_what_came_of_them(tmp_path: Path) -> None:
    it = extracted(NOTEBOOK, tmp_path, "a.ipynb")
    assert it.text == "# Study\nWords.\n\n```python\nprint(1)\n```"
    assert (it.kind, it.media_type) == ("markdown", "application/x-ipynb+json")
    it = extracted(b'{"no": "notebook"}', tmp_path, "a.ipynb")
    assert (it.text, it.kind, it.media_type) == ('{"no": "notebook"}', "code", "application/json")


@pytest.mark.parametrize(
    ("data", "title"), [(b"words\n# The *title* #\n", "The *title*"), (b"Title\n=====\n", "Title"), (b"words", "")]
)
def test_a_markdown_files_title_is_its_first_heading(data: bytes, title: str, tmp_path: Path) -> None:
    assert extracted(data, tmp_path, "a.md").title == title


def test_too_much_text_is_refused_before_and_after_it_is_read(tmp_path: Path) -> None:
    for data, name in ((b"a" * 400, "a.txt"), (b"a" * 11, "a.txt"), (b"[" + b"1," * 1500 + b"1]", "a.json")):
        with pytest.raises(InvalidRequest, match="more than"):
            extracted(data, tmp_path, name, limit=10 if name == "a.txt" else 4000)


def read_as(encoding: str) -> str:
    return f"The file is not in UTF-8; it was read as {encoding}."


def gaps(encoding: str) -> str:
    return f"The file is not valid {encoding} in places (1): U+FFFD stands there."


# --- charsets ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "text", "warning"),
    [
        ("a\u00e9\U0001f600".encode(), "a\u00e9\U0001f600", ""),
        ("\u00e9".encode("utf-8-sig"), "\u00e9", ""),
        ("\u00e9".encode("utf-16"), "\u00e9", ""),
        (codecs.BOM_UTF16_BE + "\u00e9".encode("utf-16-be"), "\u00e9", ""),
        ("\u00e9".encode("utf-32"), "\u00e9", ""),
        (codecs.BOM_UTF16_LE + b"a\0b", "a\ufffd", gaps("UTF-16")),
        ("\u00e9".encode() * 30 + b"\xff", "\u00e9" * 30 + "\ufffd", gaps("UTF-8")),
        (
            "un \u00e9t\u00e9 \u00e0 Lyon, \u20ac5".encode("cp1252"),
            "un \u00e9t\u00e9 \u00e0 Lyon, \u20ac5",
            read_as("cp1252"),
        ),
        (b"tous les jours \x81", "tous les jours \x81", read_as("latin-1")),
        (b"charset=nonsense caf\xe9 noir", "charset=nonsense caf\u00e9 noir", read_as("cp1252")),
        (b"charset=zlib caf\xe9 noir", "charset=zlib caf\u00e9 noir", read_as("cp1252")),
        (b"charset=ascii caf\xe9 noir", "charset=ascii caf\u00e9 noir", read_as("cp1252")),
    ],
)
def test_charsets(data: bytes, text: str, warning: str) -> None:
    assert decode(data) == (text, warning)


@pytest.mark.parametrize(("text", "encoding"), [(RUSSIAN, "cp1251"), (JAPANESE, "shift_jis"), (JAPANESE, "euc_jp")])
def test_complaint_10_texts_in_other_scripts_are_read_in_their_charset(text: str, encoding: str) -> None:
    found, warning = decode(text.encode(encoding))
    assert found == text
    assert warning.startswith("The file is not in UTF-8; it was read as")
