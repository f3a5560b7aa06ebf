from hypothesis import given
from hypothesis import strategies as st

from narthex.core.documents import Chunk, Found, Hit, Left, Scores
from narthex.retrieval.selection import NEARLY, look_at, select


def hit(key, index, fused):
    return Hit(document_key=key, index=index, chunk=Chunk(start=0, stop=1, text="x"), scores=Scores(fused=fused))


def names(hits):
    return [f"{each.document_key}{each.index}" for each in hits]


ALIKE = Found(hits=(*(hit("a", at, 1 - at / 100) for at in range(6)), hit("b", 0, 0.9), hit("c", 0, 0.85)))


def test_one_document_has_half_of_the_places_where_others_are_nearly_as_good():
    chosen = select(ALIKE, n=4, per_document=None)
    assert names(chosen.hits) == ["a0", "a1", "b0", "c0"]
    assert [(f"{each.document_key}{each.index}", each.why) for each in chosen.left[:3]] == [
        ("a2", "per_document"),
        ("a3", "per_document"),
        ("a4", "rank"),
    ]


def test_what_is_far_weaker_displaces_nothing():
    far = Found(hits=(*ALIKE.hits[:6], hit("b", 0, NEARLY * 0.9)))
    assert names(select(far, n=4, per_document=None).hits) == ["a0", "a1", "a2", "a3"]


def test_a_document_that_is_alone_fills_all():
    assert len(select(Found(hits=ALIKE.hits[:6]), n=6, per_document=None).hits) == 6


def test_a_cap_of_the_caller_s_own_holds_whatever_the_others_have():
    chosen = select(ALIKE, n=4, per_document=1)
    assert names(chosen.hits) == ["a0", "b0", "c0"]
    assert {each.why for each in chosen.left} == {"per_document"}
    assert names(select(ALIKE, n=2, per_document=1).hits) == ["a0", "b0"]


def test_what_the_search_itself_left_is_told_after():
    left = Left(document_key="z", index=0, scores=Scores(fused=0.0), why="rank")
    chosen = select(Found(hits=ALIKE.hits[:2], left=(left,), words=("w",)), n=1, per_document=None)
    assert [each.document_key for each in chosen.left] == ["a", "z"]
    assert chosen.words == ("w",)


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0, 1)), max_size=30),
    st.integers(1, 12),
    st.none() | st.integers(1, 5),
)
def test_whatever_was_found(found, n, per_document):
    hits = sorted((hit(key, at, score) for at, (key, score) in enumerate(found)), key=lambda one: -one.scores.fused)
    chosen = select(Found(hits=tuple(hits)), n=n, per_document=per_document)
    assert len(chosen.hits) <= n
    assert list(chosen.hits) == [each for each in hits if each in chosen.hits]
    if per_document is None:
        assert len(chosen.hits) == min(n, len(hits))
        if hits:
            assert chosen.hits[0] == hits[0]
    else:
        assert all(names(chosen.hits).count(name) == 1 for name in names(chosen.hits))
        assert all(sum(one.document_key == key for one in chosen.hits) <= per_document for key in "abcd")
    assert {(each.document_key, each.index) for each in chosen.left}.isdisjoint(
        (each.document_key, each.index) for each in chosen.hits
    )


def test_more_is_looked_at_than_taken():
    assert [look_at(n) for n in (1, 5, 50, 300)] == [4, 20, 200, 300]
