"""PDF files: pages, headings, and what is wrong with some."""

from pathlib import Path

import pytest
from tests.files_made import pdf, pdf_of

from narthex.core.errors import InvalidRequest
from narthex.retrieval.extract.extracted import Bounds, Extracted
from narthex.retrieval.extract.read import read


def extracted(data: bytes, folder: Path, bounds: Bounds | None = None) -> Extracted:
    file = folder / "file"
    file.write_bytes(data)
    return read(file, name="a.pdf", media_type=None, bounds=bounds or Bounds())


def test_pages_title_and_headings(tmp_path: Path) -> None:
    pages = [["Introduction", "It begins (here)."], ["It goes on"], ["Chapter two", "The end."]]
    told: list[tuple[int, int]] = []
    bounds = Bounds(progress=lambda done, total: told.append((done, total)))
    outline = [("Introduction", 0), ("Chapter two", 2), ("Nowhere", 1)]
    it = extracted(pdf(pages, title="A report", outline=outline), tmp_path, bounds)
    assert it.text == "Introduction\nIt begins (here).\n\nIt goes on\nChapter two\nThe end."
    assert (it.media_type, it.title, it.warnings) == ("application/pdf", "A report", ())
    assert [page.number for page in it.pages] == [1, 2, 3]
    assert [it.text[page.start :].lstrip()[:7] for page in it.pages] == ["Introdu", "It goes", "Chapter"]
    assert [(it.text[heading.start :].split("\n")[0], heading.title) for heading in it.headings] == [
        ("Introduction", "Introduction"),
        ("It goes on", "Nowhere"),
        ("Chapter two", "Chapter two"),
    ]
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_letters_beyond_ascii(tmp_path: Path) -> None:
    assert (
        extracted(pdf([["Gr\u00fc\u00dfe \u2013 \u00e9t\u00e9"]]), tmp_path).text
        == "Gr\u00fc\u00dfe \u2013 \u00e9t\u00e9"
    )


def test_complaint_2_a_pdf_without_a_text_layer_is_no_empty_document(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"no text layer: its pages are pictures.*OCR") as caught:
        extracted(pdf([[], []]), tmp_path)
    assert caught.value.param == "file"


def test_pages_without_text_are_named(tmp_path: Path) -> None:
    it = extracted(pdf([[], ["Text."], []]), tmp_path)
    assert it.text == "Text."
    assert it.warnings == ("No text on pages 1, 3: such pages are blank, or pictures.",)
    (warning,) = extracted(pdf([["Text."], *([[]] * 25)]), tmp_path).warnings
    assert warning.startswith("No text on pages 2, 3,")
    assert " 21 and 5 more:" in warning


@pytest.mark.parametrize(
    "damage",
    [lambda data: b"%PDF-1.7\nnonsense", lambda data: data[:60], lambda data: data.replace(b"/Kids", b"/Kinds")],
    ids=["nonsense", "cut", "no pages"],
)
def test_a_damaged_file_is_named_as_such(damage: object, tmp_path: Path) -> None:
    assert callable(damage)
    with pytest.raises(InvalidRequest, match=r"PDF is damaged|No page of the PDF can be read|no text layer"):
        extracted(damage(pdf([["a"]])), tmp_path)


def test_a_page_that_can_not_be_read_costs_itself_only(tmp_path: Path) -> None:
    data = pdf([["one"], ["two"]])
    it = extracted(data.replace(b"/Kids [5 0 R 7 0 R]", b"/Kids [5 0 R 4 0 R]"), tmp_path)
    assert it.text == "one"
    assert "page 2" in it.warnings[0]


def test_a_password_is_named(tmp_path: Path) -> None:
    locked = pdf([["a"]]).replace(
        b"/Root 1 0 R",
        b"/Root 1 0 R /ID [<00><00>] /Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O <%s> /U <%s> >>"
        % (b"00" * 32, b"11" * 32),
    )
    with pytest.raises(InvalidRequest, match="protected by a password"):
        extracted(locked, tmp_path)


def test_too_much_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="more than 10 characters"):
        extracted(pdf([["12345678901"]]), tmp_path, Bounds(max_characters=10))


def test_words_divided_at_the_end_of_a_line_are_put_together(tmp_path: Path) -> None:
    content = b"BT /F1 12 Tf 14 TL 50 780 Td (a divi-) Tj T* (ded word) Tj ET"
    assert "divided" in extracted(pdf_of([content]), tmp_path).text.replace("-\n", "")


def test_an_outline_that_points_to_itself_ends(tmp_path: Path) -> None:
    data = pdf([["a"], ["b"]], outline=[("A", 0), ("B", 1)])
    it = extracted(data.replace(b"/Next 11 0 R", b"/Next 10 0 R"), tmp_path)
    assert it.text == "a\nb"
