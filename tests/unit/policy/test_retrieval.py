import itertools
import json
from contextlib import asynccontextmanager

import pytest
from tests.scripted_deployment import ScriptedDeployment, answer, principal

from narthex.core.documents import Chunk, Collection, EmbeddingModel, Found, Hit, Scores
from narthex.core.errors import (
    ContextLengthExceeded,
    EngineCrashed,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    UpstreamRejected,
)
from narthex.core.keys import Grants
from narthex.core.ports import Call
from narthex.dialects.thyris import NativeChatDialect
from narthex.policy.retrieval import Retrieving
from narthex.retrieval.library import Retrieved

pytestmark = pytest.mark.anyio

WHO = principal(Grants(surfaces=frozenset({"chat", "documents"}), models=("*",), collections=("*",)))
COLLECTION = Collection(id="c", account_id="a", key="k", model=EmbeddingModel(name="e", dim=1), created_ms=0)
PROMPT = "<{{Context}}> {{UserInput}}"
IMAGE = "data:image/png;base64,aGk="


class Shelves:
    """A library that finds so many chunks of different documents."""

    def __init__(self, *texts):
        self.questions = []
        self._hits = tuple(
            Hit(document_key=f"d{at}", index=0, chunk=Chunk(start=0, stop=len(text), text=text), scores=Scores(fused=1))
            for at, text in enumerate(texts)
        )

    async def retrieve(self, principal, key, question):
        if key != "k":
            raise NotFound
        self.questions.append(question)
        found = Found(hits=self._hits[: question.n])
        return Retrieved(collection=COLLECTION, found=found, retrieval="hybrid", weight=0.5, tokens=3, duration_ms=1)


class Model(ScriptedDeployment):
    """Takes so many characters of a last message; `refuses` with this error where there are more."""

    def __init__(self, *, takes=10_000, error=None):
        super().__init__(*answer("Yes."))
        self._most, self._error = takes, error or ContextLengthExceeded()
        self.prompts = []

    def open(self, call):
        self.prompts.append(json.loads(bytes(call.request.sent["messages"]))[-1]["content"])
        self._refuses = self._error if len(call.request.messages[-1].text) > self._most else None
        return super().open(call)


def call_of(who=WHO, **fields):
    body = {"model": "m", "input": "Why?"} | fields
    decoded = NativeChatDialect().decode(json.dumps(body).encode(), profile="openai", strict=True)
    return Call(decoded.request, id="1", surface="chat", principal=who, started_s=0.0)


def over(**fields):
    return call_of(**({"use_documents_from": "k", "rag_prompt": PROMPT} | fields))


async def run(call, model, library=None, *, window=0):
    retrieving = Retrieving(library or Shelves(), handler=model.open, window=lambda _: window)
    async with retrieving.open(call) as frames:
        async for _ in frames:
            pass
    return call.grounded


async def test_a_chat_without_documents_passes_untouched():
    call, library = call_of(), Shelves("x")
    before = call.request
    assert await run(call, Model(), library) is None
    assert call.request is before
    assert library.questions == []


async def test_what_was_found_stands_in_the_last_message():
    model, library = Model(), Shelves("one", "two", "three")
    call = over(n_documents=2, documents=["d0"], chat_history=[["a", "b"]])
    grounded = await run(call, model, library)
    assert model.prompts == ["<one\n\ntwo> Why?"]
    assert [message.role for message in call.request.messages] == ["system", "user", "assistant", "user"]
    assert (library.questions[0].text, library.questions[0].documents) == ("Why?", ("d0",))
    assert grounded.sources == ("d0", "d1")
    assert grounded.budget is None


async def test_what_was_said_before_stays_as_it_was():
    """C38: every turn begins with the whole of the last one's history, so that an engine reads only what is new."""
    said = [["a", "b"], ["c", "d"], ["e", "f"]]
    turns = []
    for at in range(len(said) + 1):
        call = over(chat_history=said[:at])
        await run(call, Model(), Shelves(f"other context {at}"))
        turns.append(json.loads(bytes(call.request.sent["messages"])))
    for before, after in itertools.pairwise(turns):
        assert after[: len(before) - 1] == before[:-1]


async def test_an_image_stays_beside_the_prompt():
    model = Model()
    await run(over(image=IMAGE), model, Shelves("one"))
    [[text, image]] = model.prompts
    assert text == {"type": "text", "text": "<one> Why?"}
    assert image["image_url"]["url"] == IMAGE


@pytest.mark.parametrize("error", [None, UpstreamRejected("Long.", code="context_length_exceeded")])
async def test_where_the_model_finds_it_too_long_half_of_it_goes(error):
    model = Model(takes=70, error=error)
    grounded = await run(over(), model, Shelves(*["word " * 8] * 5))
    assert len(model.prompts) == 3
    assert grounded.sources == ("d0",)
    assert {left.why for left in grounded.left} == {"token_budget"}
    assert len(grounded.warnings) == 2
    assert model.closed == model.opened


async def test_one_chunk_that_does_not_fit_is_an_error():
    with pytest.raises(ContextLengthExceeded):
        await run(over(), Model(takes=10), Shelves("word " * 8))


async def test_other_errors_are_not_tried_again():
    model = Model(takes=10, error=EngineCrashed())
    with pytest.raises(EngineCrashed):
        await run(over(), model, Shelves("one", "two"))
    assert len(model.prompts) == 1


async def test_the_window_sets_the_budget():
    grounded = await run(over(system_prompt=""), Model(), Shelves(*["word " * 40] * 5), window=200)
    assert grounded.budget == 200 - 50 - 4 - 8
    assert len(grounded.hits) == 2


@pytest.mark.parametrize(("window", "length", "taken"), [(0, 10_000, True), (10, 40, True), (10, 41, False)])
async def test_an_input_may_be_so_long(window, length, taken):
    call = call_of(input="x" * length)
    if taken:
        await run(call, Model(), window=window)
    else:
        with pytest.raises(InvalidRequest, match="at most 40 characters"):
            await run(call, Model(), window=window)


async def test_documents_need_their_own_grant():
    who = principal(Grants(surfaces=frozenset({"chat"}), models=("*",), collections=("*",)))
    with pytest.raises(PermissionDenied):
        await run(over(who=who), Model(), Shelves("x"))


async def test_an_unknown_collection_asks_no_model():
    model = Model()
    with pytest.raises(NotFound):
        await run(over(use_documents_from="other"), model)
    assert model.opened == 0


async def test_a_caller_who_leaves_in_the_middle_closes_the_answer():
    model = Model()
    retrieving = Retrieving(Shelves("x"), handler=model.open, window=lambda _: 0)

    @asynccontextmanager
    async def left():
        async with retrieving.open(over()) as frames:
            yield await anext(frames)

    async with left():
        assert (model.opened, model.closed) == (1, 0)
    assert model.closed == 1
