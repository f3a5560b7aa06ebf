import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from narthex.core.documents import MAX_DOCUMENT_KEY, is_key
from narthex.retrieval.filenames import key_of


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("report.pdf", "report.pdf"),
        ("guide/install.md", "guide:install.md"),
        ("Jahresbericht März.docx", "Jahresbericht März.docx"),
        (unicodedata.normalize("NFD", "Jahresbericht März.docx"), "Jahresbericht März.docx"),
        ("C:\\docs\\a.txt", key_of("C:/docs/a.txt")),
    ],
)
def test_a_key_reads_as_the_file_is_called(name, key):
    assert key_of(name) == key


def test_a_long_name_keeps_its_beginning_and_its_ending():
    key = key_of("a" * 100 + ".pdf")
    assert key.startswith("a" * 51 + "~")
    assert key.endswith(".pdf")
    assert len(key) == MAX_DOCUMENT_KEY
    assert key_of("a" * 200).startswith("a" * 55 + "~")
    assert len(key_of("x." + "y" * 100)) == MAX_DOCUMENT_KEY


@pytest.mark.parametrize("pair", [("a/b", "a:b"), ("a\nb", "a_b"), ("x" * 65, "x" * 66), ("", "~"), ("a:b", "a_b")])
def test_two_names_give_two_keys(pair):
    one, other = map(key_of, pair)
    assert one != other


@given(st.text(max_size=200))
def test_any_name_gives_a_key_and_always_the_same(name):
    key = key_of(name)
    assert is_key(key, longest=MAX_DOCUMENT_KEY)
    assert key == key_of(name)
    key.encode()
