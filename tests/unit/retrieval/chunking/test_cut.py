"""Chunks of any text: exact places, in order, nothing lost."""

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from narthex.core.documents import Chunk, Chunking
from narthex.core.errors import InvalidRequest
from narthex.retrieval.chunking import cut as cutting
from narthex.retrieval.chunking.cut import cut
from narthex.retrieval.chunking.layout import Heading, Kind, Page
from narthex.retrieval.chunking.structure import LEAST_SHARE

KINDS: tuple[Kind, ...] = ("text", "markdown", "rst", "python", "code", "records", "table")

ANY_TEXT = st.text(
    st.one_of(
        st.sampled_from('ab .,!?\n\r\t\0#"`~-=*|;(){}:'),
        st.sampled_from(
            ["\u0301", "\u200d", "\U0001f469", "\U0001f3fd", "\ufe0f", "\u3002", "\U0001f1e9", "\u2028", "\x1c"]
        ),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=400,
)
PIECES = st.lists(
    st.sampled_from(
        [
            *(
                "# One\n",
                "## Two ##\n",
                "Title\n=====\n",
                "Sub\n---\n",
                "```py\n",
                "```\n",
                "~~~\n",
                "\n",
                "\n\n",
                "\r\n",
            ),
            *("A sentence. ", "Another one! ", "def f(x):\n", "    return 1\n", "class A:\n", "a,b,c\n", '"q\n,",2\n'),
            *("int main(void) {\n", "// why\n", "\u65e5\u672c\u8a9e\u3002", "e\u0301" * 5, "x" * 50, " " * 30),
        ]
    ),
    max_size=60,
).map("".join)


def check(text: str, chunks: list[Chunk], size: int) -> None:
    place = 0
    for chunk in chunks:
        assert text[chunk.start : chunk.stop] == chunk.text
        assert 0 < len(chunk.text) <= size
        assert not chunk.text.isspace()
        assert chunk.start >= place
        assert not text[place : chunk.start].strip()
        place = chunk.stop
    assert not text[place:].strip()


@given(text=st.one_of(ANY_TEXT, PIECES), size=st.integers(1, 120), kind=st.sampled_from(KINDS))
@example(text="", size=1, kind="text")
@example(text=" \n\x1c", size=3, kind="markdown")
@example(text="\r\n" * 5 + "a", size=1, kind="table")
def test_by_structure_the_chunks_are_exact_and_cover_all_that_is_not_blank(text: str, size: int, kind: Kind) -> None:
    check(text, cut(text, Chunking(mode="structure", size=size), kind=kind), size)


@given(text=ANY_TEXT, size=st.integers(1, 60))
def test_windows_are_runs_of_one_size_and_cover_the_whole_text(text: str, size: int) -> None:
    chunks = cut(text, Chunking(size=size))
    assert "".join(chunk.text for chunk in chunks) == text
    assert [(chunk.start, chunk.stop) for chunk in chunks] == [
        (start, min(start + size, len(text))) for start in range(0, len(text), size)
    ]


def test_windows_are_as_the_contract_says() -> None:
    chunks = cut("Hello, world!", Chunking(size=5))
    assert [chunk.text for chunk in chunks] == ["Hello", ", wor", "ld!"]
    assert [(chunk.start, chunk.stop) for chunk in chunks] == [(0, 5), (5, 10), (10, 13)]


def test_windows_count_code_points() -> None:
    assert [chunk.text for chunk in cut("\U0001f600a\u0301b", Chunking(size=2))] == ["\U0001f600a", "\u0301b"]


@given(text=PIECES, size=st.integers(12, 100))
def test_complaint_13_no_piece_is_a_fragment(text: str, size: int) -> None:
    """But for the white space around it, each chunk of prose is at least a third of the size if the text is."""
    chunks = cut(text, Chunking(mode="structure", size=size))
    for chunk, following in itertools.pairwise(chunks):
        assert following.start - chunk.start >= size // LEAST_SHARE
    if len(chunks) > 1:
        assert len(text.rstrip()) - chunks[-2].stop >= size // LEAST_SHARE


def test_complaint_13_short_sections_are_joined() -> None:
    text = "".join(f"## Step {number}\n\nDo it.\n\n" for number in range(40))
    chunks = cut(text, Chunking(mode="structure", size=300), kind="markdown")
    assert all(len(chunk.text) >= 100 for chunk in chunks)
    assert all(chunk.text.startswith("## Step") for chunk in chunks)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "text",
    [
        *("x" * 2_000_000, " " * 2_000_000 + "x", "\n" * 1_000_000 + "a", '"' * 500_000, "# " * 300_000),
        *("a((((;" * 200_000, "```\n" * 100_000, ("a" * 90 + "(" * 300 + "\n") * 2000, ("static " * 500 + "\n") * 200),
        ".'" * 500_000,
    ],
    ids=["a line", "blanks", "line ends", "quotes", "hashes", "brackets", "fences", "calls", "words", "stops"],
)
def test_no_text_takes_long(kind: Kind, text: str) -> None:
    """The tests' own clock would tell; most of these take a tenth of a second."""
    check(text, cut(text, Chunking(mode="structure", size=1000), kind=kind), 1000)


def test_a_chunk_is_on_the_page_that_it_begins_on() -> None:
    pages = [Page(start=0, number=1), Page(start=10, number=2), Page(start=10, number=3)]
    chunks = cut("a" * 20, Chunking(size=6), pages=pages)
    assert [chunk.page for chunk in chunks] == [1, 1, 3, 3]


def test_known_headings_stand_in_for_those_of_the_text() -> None:
    headings = [Heading(start=0, level=1, title="Part"), Heading(start=4, level=2, title="Chapter")]
    (first, second) = cut("aaa\nbbb\n", Chunking(mode="structure", size=4), headings=headings)
    assert (first.context, second.context) == ("Part", "Part \u203a Chapter")


def test_sizes_that_make_no_sense_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidRequest, match="at least one character"):
        cut("a", Chunking(size=0))
    monkeypatch.setattr(cutting, "MAX_CHUNKS", 10)
    assert len(cut("a" * 10, Chunking(size=1))) == 10
    with pytest.raises(InvalidRequest, match="more than 10 chunks"):
        cut("a" * 11, Chunking(size=1))
