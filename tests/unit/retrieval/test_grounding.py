import pytest

from narthex.core.documents import Chunk, Collection, EmbeddingModel, Found, Hit, Scores
from narthex.core.grounding import Wanted
from narthex.retrieval.grounding import budget, ground, with_fewer
from narthex.retrieval.library import Retrieved

COLLECTION = Collection(
    id="c", account_id="a", key="k", model=EmbeddingModel(name="e", dim=1), created_ms=0, retrieval="vector"
)
WANTED = Wanted(collection="k", question="q")


def hit(key, index, text, *, start=None, context="", page=None):
    start = 10 * index if start is None else start
    chunk = Chunk(start=start, stop=start + len(text), text=text, context=context, page=page)
    return Hit(document_key=key, index=index, chunk=chunk, scores=Scores(fused=0.5))


def grounded(*hits, room=None, wanted=WANTED):
    found = Found(hits=hits, words=("w",))
    retrieved = Retrieved(
        collection=COLLECTION, found=found, retrieval="hybrid", weight=0.5, tokens=4, duration_ms=5, warnings=("!",)
    )
    return ground(wanted, retrieved, room=room)


def test_a_callers_own_prompt_gets_the_chunks_as_they_are():
    own = Wanted(collection="k", question="q", prompt="{{Context}} {{UserInput}}")
    made = grounded(hit("b", 4, "b four"), hit("a", 0, "a zero", context="Guide", page=3), wanted=own)
    assert made.context == "b four\n\nGuide\na zero"
    assert [block.number for block in made.blocks] == [1, 2]
    assert with_fewer(made).context == "b four"


def test_blocks_stand_in_the_order_of_their_best_chunk():
    made = grounded(hit("b", 4, "b four"), hit("a", 0, "a zero"), hit("b", 5, "b five"), hit("a", 2, "a two"))
    assert [(block.number, [each.index for each in block.hits]) for block in made.blocks] == [
        (1, [4, 5]),
        (2, [0]),
        (3, [2]),
    ]
    assert made.context.split("\n\n") == ["[1] b\nb four\nb five", "[2] a\na zero", "[3] a\na two"]
    assert made.sources == ("b", "a")
    assert (made.tokens, made.duration_ms, made.words, made.warnings) == (4, 5, ("w",), ("!",))
    assert made.collection.retrieval == "hybrid"


def test_neighbours_are_joined_as_they_stand_in_the_document():
    text = "Hello world, this is it."
    made = grounded(hit("a", 1, text[12:], start=12), hit("a", 0, text[:12], start=0))
    assert made.context == f"[1] a\n{text}"


def test_headings_and_pages_are_told():
    made = grounded(hit("a", 0, "text", context="Guide > Install", page=3), hit("a", 1, "more", context="Guide"))
    assert made.context == "[1] a, page 3\nGuide > Install\ntext\nmore"


def test_nothing_found_is_an_empty_context():
    made = grounded(room=100)
    assert (made.context, made.context_tokens, made.blocks, made.sources) == ("", 0, (), ())


def test_what_does_not_fit_goes_from_the_end():
    hits = [hit(name, 0, "word " * 20) for name in "abc"]
    made = grounded(*hits, room=60)
    assert made.sources == ("a", "b")
    assert made.context_tokens <= 60
    assert [(left.document_key, left.why) for left in made.left] == [("c", "token_budget")]
    assert "1 of the chunks" in made.warnings[-1]


def test_one_chunk_is_always_tried_unless_the_caller_s_own_budget_forbids_it():
    only = hit("a", 0, "word " * 20)
    assert grounded(only, room=3).sources == ("a",)
    assert grounded(only, room=3, wanted=Wanted(collection="k", question="q", token_budget=3)).sources == ()


def test_with_fewer_the_weaker_half_goes():
    made = grounded(*(hit(name, 0, name) for name in "abcde"))
    fewer = with_fewer(made)
    assert fewer.sources == ("a", "b")
    assert [left.document_key for left in fewer.left] == ["c", "d", "e"]
    assert with_fewer(fewer).sources == ("a",)


@pytest.mark.parametrize(
    ("window", "others", "own", "room"),
    [
        (0, 50, None, None),
        (0, 50, 70, 70),
        (1000, 50, None, 700),
        (1000, 50, 70, 70),
        (1000, 50, 7000, 700),
        (8000, 50, None, 6926),
        (100, 5000, None, 0),
    ],
)
def test_how_much_room_there_is(window, others, own, room):
    wanted = Wanted(collection="k", question="q", token_budget=own)
    assert budget(wanted, window=window, others=others) == room
