"""Small real files, made on the fly."""

import io
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any

WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def pdf(pages: Sequence[Sequence[str]], *, title: str = "", outline: Sequence[tuple[str, int]] = ()) -> bytes:
    """A PDF with these lines on its pages; `outline`: (title, page from 0)."""
    contents = [_page_text(lines) for lines in pages]
    return pdf_of(contents, title=title, outline=outline)


def _page_text(lines: Sequence[str]) -> bytes:
    shown = b" ".join(
        b"(%s) Tj T*" % line.encode("cp1252").replace(b"(", b"\\(").replace(b")", b"\\)") for line in lines
    )
    return b"BT /F1 12 Tf 14 TL 50 780 Td %s ET" % shown if lines else b""


def pdf_of(contents: Sequence[bytes], *, title: str = "", outline: Sequence[tuple[str, int]] = ()) -> bytes:
    """A PDF with these content streams."""
    first_page = 5
    first_item = first_page + 2 * len(contents)
    kids = b" ".join(b"%d 0 R" % (first_page + 2 * at) for at in range(len(contents)))
    objects = {
        1: b"<< /Type /Catalog /Pages 2 0 R %s>>" % (b"/Outlines %d 0 R " % first_item if outline else b""),
        2: b"<< /Type /Pages /Kids [%s] /Count %d >>" % (kids, len(contents)),
        3: b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        4: b"<< /Title (%s) >>" % title.encode("latin-1"),
    }
    for at, content in enumerate(contents):
        packed = zlib.compress(content)
        objects[first_page + 2 * at] = (
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R >> >> "
            b"/Contents %d 0 R >>" % (first_page + 2 * at + 1)
        )
        objects[first_page + 2 * at + 1] = b"<< /Length %d /Filter /FlateDecode >> stream\n%s\nendstream" % (
            len(packed),
            packed,
        )
    if outline:
        last = first_item + len(outline)
        objects[first_item] = b"<< /First %d 0 R /Last %d 0 R /Count %d >>" % (first_item + 1, last, len(outline))
    for at, (name, page) in enumerate(outline, first_item + 1):
        around = (b"/Next %d 0 R " % (at + 1) if at < first_item + len(outline) else b"") + (
            b"/Prev %d 0 R " % (at - 1) if at > first_item + 1 else b""
        )
        objects[at] = b"<< /Title (%s) /Parent %d 0 R %s/Dest [%d 0 R /Fit] >>" % (
            name.encode("latin-1"),
            first_item,
            around,
            first_page + 2 * page,
        )
    return _pdf_file(objects)


def _pdf_file(objects: dict[int, bytes]) -> bytes:
    out, places = bytearray(b"%PDF-1.7\n"), {}
    for number, body in sorted(objects.items()):
        places[number] = len(out)
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    for number in sorted(objects):
        out += b"%010d 00000 n \n" % places[number]
    out += b"trailer << /Size %d /Root 1 0 R /Info 4 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
    return bytes(out)


def docx(body: str, *, title: str = "", styles: str = "", document: str | None = None, **parts: bytes) -> bytes:
    """A DOCX with this body (WordprocessingML, its elements without prefix `w:` are written with it)."""
    whole = (
        document
        or f'<?xml version="1.0" encoding="UTF-8"?><w:document xmlns:w="{WORD}"><w:body>{body}</w:body></w:document>'
    )
    core = (
        '<cp:coreProperties xmlns:cp="http://schemas.openxmlformats.org/package/2006/metadata/core-properties" '
        f'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{title}</dc:title></cp:coreProperties>'
    )
    files: dict[str, Any] = {
        "[Content_Types].xml": "<Types/>",
        "word/document.xml": whole,
        "word/styles.xml": f'<w:styles xmlns:w="{WORD}">{styles}</w:styles>',
        "docProps/core.xml": core,
        **{name.replace("__", "/") + ".xml": content for name, content in parts.items()},
    }
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return made.getvalue()


def paragraph(text: str, *, properties: str = "", run: str = "") -> str:
    """One paragraph of a DOCX."""
    return f"<w:p><w:pPr>{properties}</w:pPr><w:r><w:rPr>{run}</w:rPr><w:t>{text}</w:t></w:r></w:p>"


def style(identity: str, name: str) -> str:
    """One style of a DOCX."""
    return f'<w:style w:type="paragraph" w:styleId="{identity}"><w:name w:val="{name}"/></w:style>'
