"""DOCX files: what is read, what is left out, and what means harm."""

import io
import zipfile
from pathlib import Path

import pytest
from tests.files_made import WORD, docx, paragraph, style

from narthex.core.errors import InvalidRequest
from narthex.retrieval.extract import docx as reading
from narthex.retrieval.extract.extracted import Bounds, Extracted
from narthex.retrieval.extract.read import read


def extracted(data: bytes, folder: Path, bounds: Bounds | None = None) -> Extracted:
    file = folder / "file"
    file.write_bytes(data)
    return read(file, name="a.docx", media_type=None, bounds=bounds or Bounds())


def text(body: str, folder: Path, **more: str) -> str:
    return extracted(docx(body, **more), folder).text


def test_headings_lists_and_tables(tmp_path: Path) -> None:
    cell = "<w:tc>{}</w:tc>".format
    inner = cell("<w:tbl><w:tr>" + cell(paragraph("1")) + "</w:tr></w:tbl>")
    body = (
        paragraph("Bericht", properties='<w:pStyle w:val="Titel"/>')
        + paragraph("Teil eins", properties='<w:pStyle w:val="berschrift2"/>')
        + paragraph("Erste  Zeile.")
        + paragraph("Punkt", properties='<w:numPr><w:numId w:val="1"/></w:numPr>')
        + paragraph("Unten", properties='<w:outlineLvl w:val="2"/>')
        + paragraph("Flie\u00dftext", properties='<w:outlineLvl w:val="9"/>')
        + "<w:tbl>"
        + f"<w:tr>{cell(paragraph('Name'))}{cell(paragraph('Wert', properties='<w:numPr/>'))}</w:tr>"
        + f"<w:tr>{cell(paragraph('a') + paragraph('b'))}{inner}</w:tr>"
        + "</w:tbl>"
        + paragraph("Ende")
    )
    styles = style("Titel", "Title") + style("berschrift2", "heading 2") + style("Standard", "Normal")
    it = extracted(docx(body, title="Der Titel", styles=styles), tmp_path)
    assert it.text == (
        "# Bericht\n\n## Teil eins\n\nErste Zeile.\n\n- Punkt\n\n### Unten\n\nFlie\u00dftext\n\n"
        "Name | Wert\na b | 1\n\nEnde"
    )
    assert (it.title, it.kind) == ("Der Titel", "markdown")
    assert it.media_type.endswith("wordprocessingml.document")


def test_breaks_tabs_and_hyphens(tmp_path: Path) -> None:
    body = (
        "<w:p><w:r><w:t>a</w:t><w:tab/><w:t>b</w:t><w:br/><w:t>c</w:t><w:noBreakHyphen/><w:t>d</w:t><w:cr/></w:r></w:p>"
    )
    assert text(body, tmp_path) == "a b\nc-d"
    in_cell = f"<w:tbl><w:tr><w:tc>{body}</w:tc></w:tr></w:tbl>"
    assert text(in_cell, tmp_path) == "a b c-d"


def test_what_a_reader_does_not_see_is_not_read(tmp_path: Path) -> None:
    body = (
        paragraph("seen")
        + paragraph("hidden", run="<w:vanish/>")
        + paragraph("shown", run='<w:vanish w:val="0"/>')
        + "<w:p><w:del><w:r><w:delText>deleted</w:delText></w:r></w:del>"
        + "<w:r><w:instrText>PAGE</w:instrText></w:r></w:p>"
    )
    assert text(body, tmp_path) == "seen\n\nshown"


def test_a_text_box_is_read_once(tmp_path: Path) -> None:
    box = f"<w:txbxContent>{paragraph('boxed')}</w:txbxContent>"
    body = (
        '<w:p><w:r><mc:AlternateContent xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006">'
        f"<mc:Choice>{box}</mc:Choice><mc:Fallback><w:pict>{box}</w:pict></mc:Fallback></mc:AlternateContent></w:r></w:p>"
    )
    assert text(body, tmp_path) == "boxed"


def test_footnotes_come_at_the_end(tmp_path: Path) -> None:
    notes = f'<w:footnotes xmlns:w="{WORD}"><w:footnote>{paragraph("A note.")}</w:footnote></w:footnotes>'
    assert extracted(docx(paragraph("Text."), word__footnotes=notes.encode()), tmp_path).text == "Text.\n\nA note."


def test_the_strict_form_is_read_too(tmp_path: Path) -> None:
    strict = (
        '<w:document xmlns:w="http://purl.oclc.org/ooxml/wordprocessingml/main"><w:body>'
        + paragraph("Strict", properties='<w:outlineLvl w:val="0"/>')
        + "</w:body></w:document>"
    )
    assert text("", tmp_path, document=strict) == "# Strict"


def test_only_the_text_itself_is_needed(tmp_path: Path) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(
            "word/document.xml", f'<w:document xmlns:w="{WORD}"><w:body>{paragraph("a")}</w:body></w:document>'
        )
    assert extracted(made.getvalue(), tmp_path).text == "a"


def test_entities_that_multiply_are_refused(tmp_path: Path) -> None:
    laughs = '<!DOCTYPE w [<!ENTITY a "ha">' + "".join(
        f'<!ENTITY {name} "{f"&{before};" * 10}">' for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
    document = f'{laughs}]><w:document xmlns:w="{WORD}"><w:body>{paragraph("&i;")}</w:body></w:document>'
    with pytest.raises(InvalidRequest, match="declares a document type"):
        text("", tmp_path, document=document)


def test_what_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_PART_BYTES", 1_000_000)
    with pytest.raises(InvalidRequest, match="unpacks to more"):
        text(" " * 2_000_000, tmp_path)


def test_too_much_text_is_refused_while_it_is_read(tmp_path: Path) -> None:
    for body in (paragraph("12345678901"), paragraph("ab " * 5000) * 3):
        with pytest.raises(InvalidRequest, match="more than 10 characters"):
            extracted(docx(body), tmp_path, Bounds(max_characters=10))


@pytest.mark.parametrize(
    "data",
    [
        b"PK\x03\x04 and no more",
        docx("a")[:-30],
        docx("", document="<w:document"),
        docx("", document="<a>&none;</a>"),
        docx(paragraph("text" * 100)).replace(b"word/document.xml", b"word/documenu.xml", 1),
    ],
    ids=["no archive", "cut", "no XML", "unknown entity", "names differ"],
)
def test_a_damaged_file_is_named_as_such(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="damaged"):
        extracted(data, tmp_path)


def test_damaged_bytes_in_the_archive(tmp_path: Path) -> None:
    data = bytearray(docx(paragraph("word " * 2000)))
    start = data.index(b"word/document.xml") + 30
    data[start : start + 20] = b"\xff" * 20
    with pytest.raises(InvalidRequest, match="damaged"):
        extracted(bytes(data), tmp_path)


def test_a_document_without_text_says_so(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="holds no text"):
        text(paragraph(""), tmp_path)
