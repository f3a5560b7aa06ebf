"""Where prose, Markdown, programs and tables are cut, and what their chunks are told to stand under."""

import pytest

from narthex.core.documents import Chunk, Chunking
from narthex.retrieval.chunking import code, markdown, records, rst
from narthex.retrieval.chunking.cut import cut
from narthex.retrieval.chunking.layout import Kind


def chunks(text: str, size: int, kind: Kind = "text") -> list[Chunk]:
    return cut(text, Chunking(mode="structure", size=size), kind=kind)


def texts(text: str, size: int, kind: Kind = "text") -> list[str]:
    return [chunk.text for chunk in chunks(text, size, kind)]


# --- prose ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size", "expected"),
    [
        ("One two.\n\nThree four.\n\nFive.", 20, ["One two.", "Three four.\n\nFive."]),
        ("One two. Three four. Five six.", 22, ["One two. Three four.", "Five six."]),
        ("one two\nthree four\nfive six\n", 20, ["one two\nthree four", "five six"]),
        ("one two three four five", 10, ["one two", "three", "four five"]),
        ("one,two,three,four", 9, ["one,two,", "three,", "four"]),
        (
            "\u4eca\u65e5\u3002\u660e\u65e5\u3002\u6628\u65e5",
            6,
            ["\u4eca\u65e5\u3002\u660e\u65e5\u3002", "\u6628\u65e5"],
        ),
        ("A. \r\n\r\nB.", 4, ["A.", "B."]),
        ("fits whole.\n\nReally.", 100, ["fits whole.\n\nReally."]),
    ],
    ids=["paragraphs", "sentences", "lines", "words", "signs", "no spaces", "windows line ends", "whole"],
)
def test_prose_is_cut_where_it_hurts_least(text: str, size: int, expected: list[str]) -> None:
    assert texts(text, size) == expected


@pytest.mark.parametrize(
    "character",
    ["e\u0301", "\U0001f469\u200d\U0001f4bb", "\U0001f44d\U0001f3fd", "\U0001f1e9\U0001f1ea", "\u2764\ufe0f"],
    ids=["accent", "joined", "skin", "flag", "variation"],
)
def test_no_character_is_cut_in_two(character: str) -> None:
    for size in range(len(character) + 1, 12):
        for piece in texts(character * 20, size):
            assert len(piece) % len(character) == 0, size


def test_a_character_without_end_is_cut_all_the_same() -> None:
    assert texts("a" + "\u0301" * 99, 50) == ["a" + "\u0301" * 49, "\u0301" * 50]


# --- Markdown ------------------------------------------------------------------------------------------------------

GUIDE = """\
---
title: not a heading
---
Guide
=====

Words before.

## Install *now*

### Linux

Use the package manager of your system, which knows best.

### Mac [docs](http://x/y)

Use brew.

```sh
# not a heading
brew install it
```

Use ##
"""


def test_headings_are_found_in_both_forms_and_only_outside_of_listings() -> None:
    found = [(heading.level, heading.title) for heading in markdown.outline(GUIDE).headings]
    assert found == [(1, "Guide"), (2, "Install now"), (3, "Linux"), (3, "Mac docs")]
    assert all(GUIDE[heading.start] in "G#" for heading in markdown.outline(GUIDE).headings)


def test_a_chunk_is_told_the_headings_above_it() -> None:
    made = chunks(GUIDE, 110, "markdown")
    (linux,) = (chunk for chunk in made if "package manager" in chunk.text)
    (listing,) = (chunk for chunk in made if "brew install" in chunk.text)
    assert linux.context.startswith("Guide \u203a Install now")
    assert listing.context == "Guide \u203a Install now \u203a Mac docs"
    assert listing.indexed.startswith("Guide \u203a Install now \u203a Mac docs\n")


def test_what_spans_sections_is_under_what_they_share() -> None:
    text = "# A\n\n## B\n\nb\n\n## C\n\nc\n"
    assert [chunk.context for chunk in chunks(text, 100, "markdown")] == ["A"]
    text = "before\n\n# A\n\na\n\n# D\n\nd"
    assert [chunk.context for chunk in chunks(text, 100, "markdown")] == [""]


def test_a_long_way_down_is_told_by_its_ends() -> None:
    text = "".join(f"{'#' * level} {str(level) * 150}\n\n" for level in range(1, 7)) + "Words."
    context = chunks(text + " More words." * 200, 1200, "markdown")[-1].context
    assert context == " \u203a ".join(["1" * 120, "6" * 120])


def test_a_heading_is_a_better_place_than_a_paragraph_and_a_high_one_better_than_a_low_one() -> None:
    text = "# A\n\n" + "word " * 8 + "\n\n## B\n\nb\n\n# C\n\n" + "word " * 12
    assert [piece[:3] for piece in texts(text, 80, "markdown")] == ["# A", "# C"]


def test_a_listing_stays_whole_where_it_can() -> None:
    listing = "```\n" + "line\n\n" * 12 + "```"
    text = "Prose that goes before. " * 2 + "\n\n" + listing + "\n\nafter"
    assert listing in [piece.removesuffix("\n\nafter") for piece in texts(text, 100, "markdown")]


@pytest.mark.parametrize(
    ("text", "titles"),
    [
        ("#nospace\n", []),
        ("#\n", [""]),
        ("# closed #\n", ["closed"]),
        ("    # indented\n", []),
        ("~~~\n# a\n```\n# b\n~~~\n# c\n", ["c"]),
        ("```a`b\n# c\n", ["c"]),
        ("```\n# to the end\n", []),
        ("a\n---\nb\n\n---\n\nc\n--\n", ["a", "c"]),
        ("# one\r\ntwo\r\n===\r\n", ["one", "two"]),
        ("---\nno end\n# a\n", ["a"]),
        ("```\nin\n--\n```\nout\n--\n", ["out"]),
    ],
)
def test_markdowns_own_rules(text: str, titles: list[str]) -> None:
    assert [heading.title for heading in markdown.outline(text).headings] == titles


# --- reStructuredText ---------------------------------------------------------------------------------------------


def test_signs_under_and_over_lines_are_headings_in_the_order_of_their_coming() -> None:
    text = "=====\n Top\n=====\n\nWords.\n\nOne\n===\n\nSub\n...\n\nTwo\n===\n\nToo long\n---\n\n----\n----\n"
    found = rst.outline(text).headings
    assert [(heading.level, heading.title) for heading in found] == [(1, "Top"), (2, "One"), (3, "Sub"), (2, "Two")]
    assert found[0].start == 0
    assert [chunk.context for chunk in chunks(text, 30, "rst")][-1] == "Top \u203a Two"


# --- programs ------------------------------------------------------------------------------------------------------

PYTHON = '''\
"""A module, which has a docstring."""

import os
import sys



# How it is done:
@decorated
class Engine:
    """Runs."""

    def start(self) -> None:
        self.on = True

    async def stop(self) -> None:
        self.on = False

if os.name == "nt":
    def only_there():
        pass


def last(): return 1
'''


def test_complaint_9_programs_are_cut_at_their_definitions() -> None:
    found = [(heading.level, heading.title) for heading in code.python(PYTHON).headings]
    assert found == [(1, "class Engine"), (2, "def start"), (2, "def stop"), (1, "def only_there"), (1, "def last")]
    made = chunks(PYTHON, 150, "python")
    (engine,) = (chunk for chunk in made if "class Engine" in chunk.text)
    assert engine.text.startswith("# How it is done:\n@decorated")
    (stop,) = (chunk for chunk in made if "def stop" in chunk.text)
    assert stop.context.startswith("class Engine")


def test_python_that_can_not_be_parsed_is_cut_as_any_program(monkeypatch: pytest.MonkeyPatch) -> None:
    for broken in ("print 'old'\n\ndef f(x):\n    pass\n", "\0\ndef f(x):\n", "x = " + "(" * 5000 + "\ndef f(x):\n"):
        assert [heading.title for heading in code.python(broken).headings] == ["def f(x)"]
    monkeypatch.setattr(code, "MAX_PARSED_CHARS", 5)
    assert [heading.title for heading in code.python("def f(x):\n    pass\n").headings] == ["def f(x)"]


@pytest.mark.parametrize(
    ("line", "title"),
    [
        ("public static final class Foo extends Bar {", "public static final class Foo extends Bar"),
        ("func (s *Server) Serve(l net.Listener) error {", "func (s *Server) Serve(l net.Listener) error"),
        ("pub(crate) async fn run(&self) -> Result<()> {", "pub(crate) async fn run(&self) -> Result<()>"),
        ("export default function main(a) {", "export default function main(a)"),
        ("static int do_it(struct thing *a, int b)", "static int do_it(struct thing *a, int b)"),
        ("int main(void) {", "int main(void)"),
        ("  def twice(x)", "def twice(x)"),
        ("CREATE TABLE accounts (", "CREATE TABLE accounts"),
        ("impl Display for Error {", "impl Display for Error"),
        ("return (a + b)", None),
        ("if (a) {", None),
        ("    call(a, b)", None),
        ("call(a, b);", None),
        ("typedef struct foo foo_t;", None),
        ("type: object", None),
        ("type = 5", None),
        ("impl<T> Display for Error<T> {", "impl<T> Display for Error<T>"),
        ("macro_rules! shout {", "macro_rules! shout"),
    ],
)
def test_definitions_of_other_languages(line: str, title: str | None) -> None:
    found = [heading.title for heading in code.code(f"// about it\n{line}\n").headings]
    assert found == ([] if title is None else [title])


def test_two_definitions_under_one_comment_begin_once() -> None:
    assert len(code.code("# c\ndef a(x)\ndef b(x)\n").headings) == 2
    assert [heading.start for heading in code.code("@a\ndef a(x)\n").headings] == [0]


# --- tables and records --------------------------------------------------------------------------------------------


def test_complaint_8_rows_are_records_and_the_header_is_with_each_chunk() -> None:
    header = "name;town;age"
    text = header + "\n" + "".join(f"person {number};town;{number}\n" for number in range(200))
    made = chunks(text, 200, "table")
    assert len(made) > 10
    assert all(chunk.context == header for chunk in made[1:])
    assert made[0].text.startswith(header)
    for chunk in made[1:]:
        assert all(line.count(";") == 2 for line in chunk.text.splitlines())


def test_a_row_of_several_lines_is_one() -> None:
    text = 'id,note\n1,"first\nsecond, with ""quotes"""\n2,short\n\n3,x\n'
    starts = records.table(text).records
    assert [text[start:].partition("\n")[0] for start in starts] == ["id,note", '1,"first', "2,short", "", "3,x"]


def test_a_quote_that_never_closes_costs_no_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_MAX_FIELD_CHARS", 100)
    text = 'a,b\n1,"open\n' + "2,x\n" * 100
    assert len(records.table(text).records) == 102


def test_a_single_row_names_no_columns() -> None:
    assert records.table("a,b\n").columns == ""
    assert records.table("").columns == ""


@pytest.mark.parametrize(
    ("text", "sign"),
    [
        ("a,b;c\n1,2;3\n", ","),
        ("a;b\n1,5;2\n", ";"),
        ("a\tb c\n", "\t"),
        ("a|b|c\n1|2|3\n", "|"),
        ("", ","),
        ("ab\n", ","),
    ],
)
def test_the_delimiter_is_what_all_rows_have_as_often(text: str, sign: str) -> None:
    assert records.delimiter(text) == sign


def test_a_record_stays_whole_if_it_can() -> None:
    text = "short\n" + "w" * 80 + "\n" + "x y " * 50 + "\n"
    assert texts(text, 85, "records")[:2] == ["short", "w" * 80]
    long_one = "short\n" + "x y " * 50 + "\n"
    assert texts(long_one, 85, "records")[0].startswith("short\nx y")
