import base64
import json

import pytest
from msgspec import UNSET
from tests.scripted_deployment import principal

from narthex.core.chat import ImagePart, TextPart
from narthex.core.documents import Chunk, Collection, EmbeddingModel, Hit, Left, Scores
from narthex.core.errors import EngineCrashed, InvalidRequest, RequestError, UnknownParameter
from narthex.core.grounding import RAG_PROMPT, SYSTEM_PROMPT, Block, Grounded, Wanted, approximate_tokens
from narthex.core.memory import LastK
from narthex.core.ports import Call
from narthex.core.stream import (
    ChoiceFinished,
    ChoiceStarted,
    Frame,
    OutOfOrder,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    Usage,
    UsageReported,
)
from narthex.dialects.thyris import LONGEST_ANSWER, NativeChatDialect, with_messages
from narthex.dialects.thyris_answer import APPROXIMATE_IMAGE_TOKENS

DIALECT = NativeChatDialect()
BODY = {"model": "m", "input": "Why?"}
IMAGE = "data:image/png;base64," + base64.b64encode(b"image").decode()
START, STOP = ChoiceStarted(0), ChoiceFinished(0, "stop")
USED = UsageReported(Usage(prompt_tokens=7, completion_tokens=2))
CREATED = 1_697_365_800
MODEL = EmbeddingModel(name="e", dim=1)
COLLECTION = Collection(id="c", account_id="a", key="k", model=MODEL, created_ms=0)


def decoded(strict=True, profile="openai", **fields):
    body = json.dumps({name: value for name, value in (BODY | fields).items() if value is not ...}).encode()
    return DIALECT.decode(body, profile=profile, strict=strict)


def asked(**fields):
    return decoded(**fields).request


# --- requests --------------------------------------------------------------------------------------------------------


def test_what_is_not_set_is_not_forwarded():
    request = asked()
    assert [(each.role, each.content) for each in request.messages] == [("system", SYSTEM_PROMPT), ("user", "Why?")]
    assert set(request.fields) == set(request.sent) == {"model", "messages"}
    assert request.sampling.temperature is UNSET
    assert (request.stream, request.documents) == (False, None)


def test_an_answer_has_an_end_where_a_model_finds_none():
    request = asked()
    assert request.sampling.at_most == LONGEST_ANSWER
    assert request.sampling.max_tokens is None
    assert "max_tokens" not in request.sent


def test_what_is_set_is_forwarded_as_it_was_sent():
    body = b'{"model": "m", "input": "x", "temperature": 1.0, "top_p":0.50, "stream": true}'
    request = DIALECT.decode(body, profile="ionos", strict=True).request
    assert bytes(request.sent["temperature"]) == b"1.0"
    assert bytes(request.sent["top_p"]) == b"0.50"
    assert (request.sampling.temperature, request.sampling.top_p, request.stream) == (1.0, 0.5, True)
    assert "max_tokens" not in request.fields  # which that profile fills in elsewhere
    assert request.fields["messages"] == request.messages


def test_history_and_image_become_messages():
    request = asked(chat_history=[["a", "b"], ["", ""]], image=IMAGE, system_prompt="s")
    assert [each.role for each in request.messages] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert request.messages[-1].content == (TextPart("Why?"), ImagePart(IMAGE))
    assert json.loads(bytes(request.sent["messages"])) == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": ""},
        {"role": "assistant", "content": ""},
        {
            "role": "user",
            "content": [{"type": "text", "text": "Why?"}, {"type": "image_url", "image_url": {"url": IMAGE}}],
        },
    ]


def test_an_empty_system_prompt_is_none():
    assert [each.role for each in asked(system_prompt="").messages] == ["user"]


def test_what_is_wanted_from_documents():
    assert asked(use_documents_from="k").documents == Wanted(collection="k", question="Why?", prompt=RAG_PROMPT)
    prompt = "{{Context}}{{UserInput}}"
    wanted = asked(
        use_documents_from="k", n_documents=50, rag_prompt=prompt, documents=["d"], token_budget=9, explain=True
    ).documents
    assert wanted == Wanted(
        collection="k", question="Why?", prompt=prompt, n=50, documents=("d",), token_budget=9, explain=True
    )


def test_what_means_nothing_without_documents_is_named():
    assert decoded(n_documents=3, explain=False).ignored == ("n_documents", "explain")
    assert decoded(use_documents_from="k", n_documents=3).ignored == ()
    assert decoded(strict=False, foo=1, n_documents=3).ignored == ("foo", "n_documents")


@pytest.mark.parametrize("name", ["rag_prompt", "documents"])
def test_what_would_be_lost_without_documents_is_refused(name):
    value = {"rag_prompt": "{{Context}}{{UserInput}}", "documents": ["d"]}[name]
    with pytest.raises(InvalidRequest, match="use_documents_from") as caught:
        asked(**{name: value})
    assert caught.value.param == name


def test_memory():
    request = asked(memory_strategy={"name": "last_k", "k": 2}, token_budget=9)
    assert (request.fields["memory_strategy"], request.fields["token_budget"]) == (LastK(2), 9)
    assert asked(memory_strategy=None).messages
    with pytest.raises(RequestError, match=r"memory_strategy\.k"):
        asked(memory_strategy={"name": "last_k"})


def test_over_documents_the_budget_is_theirs():
    request = asked(memory_strategy={"name": "last_k", "k": 2}, token_budget=9, use_documents_from="k")
    assert "token_budget" not in request.fields
    assert "memory_strategy" in request.fields


def test_what_is_unknown_is_refused_by_name():
    with pytest.raises(UnknownParameter, match="max_tokens"):
        asked(max_tokens=3)


@pytest.mark.parametrize(
    "image", ["", "x", "data:image/bmp;base64,aGk=", "data:image/png,aGk=", IMAGE + "=", IMAGE + "ä", IMAGE[:22]]
)
def test_what_is_no_image_is_refused(image):
    with pytest.raises(InvalidRequest) as caught:
        asked(image=image)
    assert caught.value.param == "image"


@pytest.mark.parametrize(("width", "height"), [(8001, 1), (1, 8001)])
def test_an_image_has_no_side_that_is_too_long(width, height):
    head = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
    for sides, refused in (((width, height), True), ((8000, 8000), False)):
        data = head + b"".join(side.to_bytes(4, "big") for side in sides)
        url = "data:image/png;base64," + base64.b64encode(data).decode()
        if refused:
            with pytest.raises(InvalidRequest, match="8001"):
                asked(image=url)
        else:
            asked(image=url)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_an_image_is_as_large_as_it_may_be_and_no_larger(size):
    url = "data:image/png;base64," + base64.b64encode(bytes(size)).decode()
    body = json.dumps(BODY | {"image": url}).encode()
    NativeChatDialect(max_image_bytes=size).decode(body, profile="openai", strict=True)
    with pytest.raises(InvalidRequest) as caught:
        NativeChatDialect(max_image_bytes=size - 1).decode(body, profile="openai", strict=True)
    assert caught.value.param == "image"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"chat_history": [["a", "b"], ["a"]]}, "chat_history[1]"),
        ({"chat_history": [["a", "b"]] * 11}, "chat_history"),
        ({"use_documents_from": "k", "rag_prompt": "{{Context}}"}, "rag_prompt"),
        ({"use_documents_from": "k", "rag_prompt": "{{UserInput}}"}, "rag_prompt"),
    ],
)
def test_what_can_t_be_is_refused_where_it_stands(fields, param):
    with pytest.raises(InvalidRequest) as caught:
        asked(**fields)
    assert caught.value.param == param


def test_other_messages_leave_the_rest():
    request = asked(temperature=1)
    other = with_messages(request, request.messages[:1])
    assert json.loads(bytes(other.sent["messages"])) == [{"role": "system", "content": SYSTEM_PROMPT}]
    assert other.fields["temperature"] == 1


# --- answers ---------------------------------------------------------------------------------------------------------


def call_of(grounded=None, **fields):
    call = Call(asked(**fields), id="1", surface="chat", principal=principal(), started_s=0.0)
    call.deployment, call.grounded = "local/m", grounded
    return call


def answered(call, *events):
    return json.loads(DIALECT.encode_answer(call, [Frame.of(*events)], created=CREATED))


def streamed(call, *frames):
    stream = DIALECT.encoder(call, created=CREATED)
    written = b"".join(map(stream.encode, frames)) + stream.end()
    return [json.loads(each.removeprefix(b"data: ")) for each in written.split(b"\n\n") if each]


def hit(key="d", index=0, text="text"):
    chunk = Chunk(start=3, stop=3 + len(text), text=text, page=2)
    return Hit(document_key=key, index=index, chunk=chunk, scores=Scores(vector=0.123456789, fused=1.0))


def grounded(*, explain=False, warnings=(), context="[1] d\ntext"):
    one = hit()
    return Grounded(
        collection=COLLECTION,
        hits=(one,),
        left=(Left(document_key="e", index=4, scores=Scores(bm25=2.0, fused=0.5), why="rank"),),
        blocks=(Block(number=1, hits=(one,), text="[1] d\ntext"),),
        words=("why",),
        context=context,
        context_tokens=5,
        budget=100,
        tokens=3,
        duration_ms=8,
        warnings=warnings,
        explain=explain,
    )


def test_a_whole_answer():
    answer = answered(call_of(), START, ReasoningDelta(0, "hm"), TextDelta(0, "It "), TextDelta(0, "is."), STOP, USED)
    duration = answer["usage"]["inference"].pop("duration")
    assert duration > 0
    assert answer == {
        "model": "m",
        "created_at": "2023-10-15T10:30:00Z",
        "message": "It is.",
        "sources": [],
        "usage": {
            "apiKeyID": principal().key.id,
            "chatModel": "local/m",
            "embeddingModel": None,
            "inference": {
                "approxTextInputTokens": 2,
                "approxImageInputTokens": 0,
                "approxContextTokens": 0,
                "approxSystemTokens": approximate_tokens(SYSTEM_PROMPT),
                "inputTokens": 7,
                "outputTokens": 2,
            },
            "documentStore": None,
        },
        "citations": [],
        "warnings": [],
    }


def test_an_answer_over_documents():
    call = call_of(grounded(explain=True, warnings=("w",)), use_documents_from="k", chat_history=[["abcd", "efgh"]])
    answer = answered(call, START, TextDelta(0, "See [1] and [2]."), STOP, USED)
    assert answer["sources"] == ["d"]
    assert answer["citations"] == [
        {
            "number": 1,
            "documentKey": "d",
            "chunkIndex": 0,
            "start": 3,
            "end": 7,
            "page": 2,
            "quote": "text",
            "scores": {"vector": 0.123457, "bm25": None, "fused": 1.0},
        }
    ]
    assert answer["warnings"] == ["w", "The answer refers to [2], which the model was not given."]
    usage = answer["usage"]
    assert usage["embeddingModel"] == "e"
    assert usage["inference"]["approxContextTokens"] == 5
    assert usage["inference"]["approxTextInputTokens"] == 4
    assert usage["documentStore"] == {"embeddingTokens": 3, "chunks": 1, "chunkSizeSum": 4, "duration": 8}
    assert answer["explain"] == {
        "retrieval": "hybrid",
        "weight": 0.5,
        "words": ["why"],
        "left": [
            {
                "documentKey": "e",
                "chunkIndex": 4,
                "scores": {"vector": None, "bm25": 2.0, "fused": 0.5},
                "why": "rank",
            }
        ],
        "tokenBudget": 100,
        "contextTokens": 5,
        "context": "[1] d\ntext",
    }


def test_a_mark_that_stands_in_the_context_is_no_invention():
    call = call_of(grounded(context="[1] d\nas in [17]"), use_documents_from="k")
    assert answered(call, START, TextDelta(0, "See [17], [1]."), STOP)["warnings"] == []


def test_an_image_is_counted_by_guess():
    answer = answered(call_of(image=IMAGE), START, STOP)
    assert answer["usage"]["inference"]["approxImageInputTokens"] == APPROXIMATE_IMAGE_TOKENS


@pytest.mark.parametrize(("reason", "word"), [("length", "window"), ("content_filter", "filter")])
def test_an_answer_that_was_cut_off_says_so(reason, word):
    answer = answered(call_of(), START, TextDelta(0, "It"), ChoiceFinished(0, reason))
    assert word in answer["warnings"][0]


def test_a_refusal_is_the_message():
    assert answered(call_of(), START, RefusalDelta(0, "No."), STOP)["message"] == "No."


def test_a_stream_ends_with_all_but_the_text():
    call = call_of(grounded(), use_documents_from="k")
    events = streamed(
        call,
        Frame.of(START, TextDelta(0, "It ")),
        Frame.of(TextDelta(0, "[3]"), TextDelta(0, "")),
        Frame.of(STOP, USED),
    )
    assert events[:2] == [{"message": "It "}, {"message": "[3]"}]
    [last] = events[2:]
    assert last["done"] is True
    assert "message" not in last
    assert last["usage"]["inference"]["outputTokens"] == 2
    assert last["warnings"] == ["The answer refers to [3], which the model was not given."]


def test_a_stream_that_was_cut_off_says_so():
    [*_, last] = streamed(call_of(), Frame.of(START, ChoiceFinished(0, "length")))
    assert "cut off" in last["warnings"][0]


def test_errors_in_a_stream_are_texts():
    stream = DIALECT.encoder(call_of(), created=CREATED)
    assert stream.error(EngineCrashed("Gone.")) == b'data: {"error":"Gone."}\n\n'


def test_an_answer_that_is_not_whole_is_none():
    with pytest.raises(OutOfOrder):
        answered(call_of(), START)
    stream = DIALECT.encoder(call_of(), created=CREATED)
    stream.encode(Frame.of(START))
    with pytest.raises(OutOfOrder):
        stream.end()
