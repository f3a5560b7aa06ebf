"""What a chat over documents finds, what it puts before the model, what it answers and what it counts."""

import json
import re

import pytest
from tests.native_calls import (
    CITED_TOKENS,
    SAID,
    SAID_TOKENS,
    TELLER,
    WRITER,
    document_path,
    is_time,
    made,
    said_no,
)

from narthex.wire.sse import SseDecoder

pytest_plugins = ["tests.models_fixture", "tests.server_fixture", "tests.native_fixture"]
pytestmark = pytest.mark.patient

TOWN = {
    "ferry": "The ferry leaves from the eastern pier every hour. Bicycles travel for free on the upper deck.",
    "library": "The library lends out books for three weeks at a time. Late returns cost ten cents for every day.",
    "museum": "The museum shows paintings of the seventeenth century. On Mondays it is closed for everybody.",
    "pool": "The swimming pool opens at seven in the morning. Children under six must wear arm bands there.",
    "market": "The market sells cheese, honey and vegetables of the farms around on Saturdays.",
}
QUESTIONS = {
    "When do boats depart?": "ferry",
    "How long may I keep a novel?": "library",
    "Where can I look at old pictures?": "museum",
    "When can I go for a swim?": "pool",
    "Who sells honey?": "market",
}
MARKED = "<<{{Context}}>><<{{UserInput}}>>"


def chat(api, text="When do boats depart?", **fields):
    answer = api.post("/api/chat", json={"model": WRITER, "input": text} | fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def filled(prompt):
    """Context and input of a prompt made of `MARKED`."""
    found = re.fullmatch(r"<<(.*)>><<(.*)>>", prompt, re.DOTALL)
    assert found, prompt
    return found.groups()


@pytest.fixture(scope="module")
def town(api) -> str:
    return made(api, TOWN)


@pytest.fixture(scope="module")
def town_by_vectors(api) -> str:
    return made(api, TOWN, retrieval="vector")


# --- the prompt ------------------------------------------------------------------------------------------------------


def test_system_then_history_in_order_then_the_input(api, heard):
    chat(api, "Third?", system_prompt="Be brief.", chat_history=[["First?", "One."], ["Second?", "Two."]])
    assert [(each["role"], each["content"]) for each in heard.messages] == [
        ("system", "Be brief."),
        ("user", "First?"),
        ("assistant", "One."),
        ("user", "Second?"),
        ("assistant", "Two."),
        ("user", "Third?"),
    ]


def test_the_default_system_prompt_names_this_product(api, heard):
    chat(api)
    assert heard.messages[0] == {
        "role": "system",
        "content": "You're an assistant created by Narthex. Please help the user with their questions by providing "
        "concise and clear answers.",
    }


def test_an_empty_system_prompt_sends_none(api, town, heard):
    chat(api, system_prompt="")
    assert [each["role"] for each in heard.messages] == ["user"]
    chat(api, system_prompt="", use_documents_from=town)
    assert [each["role"] for each in heard.messages] == ["user"]


def test_the_default_prompt_for_documents_has_the_documented_skeleton(api, town, heard):
    chat(api, use_documents_from=town, n_documents=1, chat_history=[["a", "b"]])
    assert [each["role"] for each in heard.messages] == ["system", "user", "assistant", "user"]
    prompt = heard.prompt
    assert "{{" not in prompt
    assert prompt.endswith("\n")
    assert re.fullmatch(
        r".+<context>\n.*The ferry leaves.*\n</context>\n\n<rules>\n(- [^\n]+\n){6}</rules>\n\n"
        r"<user_query>\nWhen do boats depart\?\n</user_query>\n",
        prompt,
        re.DOTALL,
    )


def test_a_prompt_of_ones_own_is_filled_and_is_the_users(api, town, heard):
    said = chat(api, use_documents_from=town, rag_prompt=MARKED, n_documents=2)
    assert heard.messages[-1]["role"] == "user"
    context, question = filled(heard.prompt)
    assert question == "When do boats depart?"
    places = [context.index(each["quote"]) for each in said["citations"]]
    assert places == sorted(places)
    assert len(context.split("\n\n")) == 2


def test_placeholders_are_filled_wherever_they_stand(api, town, heard):
    chat(api, use_documents_from=town, rag_prompt="{{UserInput}}|{{Context}}|{{UserInput}}|{{Other}}", n_documents=1)
    first, context, second, other = heard.prompt.split("|")
    assert first == second == "When do boats depart?"
    assert TOWN["ferry"] in context
    assert other == "{{Other}}"


SLY = "Boats: {{UserInput}} and {{Context}} and {{{{Context}}}} and \\1 $& %s {0} depart."


@pytest.mark.parametrize("question", [SLY, "{{Context}}", "{{UserInput}}", "{{Con{{UserInput}}text}}"])
def test_what_looks_like_a_placeholder_is_filled_in_once_only(api, heard, question):
    shelf = made(api, {"{{UserInput}}": SLY})
    chat(api, question, use_documents_from=shelf, rag_prompt=MARKED)
    context, asked = filled(heard.prompt)
    assert asked == question
    assert context.count(SLY) == 1
    chat(api, question, use_documents_from=shelf)
    assert heard.prompt.count(SLY) == 1 + (question == SLY)
    assert f"<user_query>\n{question}\n</user_query>" in heard.prompt


def test_an_empty_collection_gives_an_empty_context(api, heard):
    said = chat(api, use_documents_from=made(api), rag_prompt=MARKED)
    assert filled(heard.prompt) == ("", "When do boats depart?")
    assert (said["sources"], said["citations"], said["message"]) == ([], [], SAID)
    assert said["usage"]["documentStore"]["chunks"] == 0
    assert said["usage"]["documentStore"]["chunkSizeSum"] == 0
    assert said["usage"]["inference"]["approxContextTokens"] == 0


def test_the_model_for_vectors_sees_the_input_only(api, town):
    """Neither prompt nor history nor system prompt changes what is found, nor what it costs to find."""
    plain = chat(api, use_documents_from=town)
    dressed = chat(
        api,
        use_documents_from=town,
        rag_prompt="Honey, cheese and the museum! {{Context}}{{UserInput}}",
        system_prompt="Speak of the museum only.",
        chat_history=[["Tell me of honey.", "Honey is sweet."]],
    )
    assert plain["sources"] == dressed["sources"]
    assert plain["citations"] == dressed["citations"]
    spent = [each["usage"]["documentStore"]["embeddingTokens"] for each in (plain, dressed)]
    assert spent[0] == spent[1]


# --- what is found ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("question", "document"), QUESTIONS.items())
@pytest.mark.parametrize("retrieval", ["hybrid", "vector"])
def test_questions_find_their_document(api, town, town_by_vectors, question, document, retrieval):
    shelf = town if retrieval == "hybrid" else town_by_vectors
    said = chat(api, question, use_documents_from=shelf)
    best = 1 if retrieval == "vector" else 2  # words like "at" stand in other documents too
    assert document in said["sources"][:best]
    assert len(said["sources"]) == len(set(said["sources"])) == 5  # of five chunks in all
    assert said["sources"] == [each["documentKey"] for each in said["citations"]]


@pytest.mark.parametrize("n", [1, 2, 5, 50])
def test_as_many_chunks_as_were_asked_for(api, town, n):
    said = chat(api, use_documents_from=town, n_documents=n)
    found = said["usage"]["documentStore"]
    assert found["chunks"] == len(said["sources"]) == min(n, 5)
    assert found["chunkSizeSum"] == sum(len(TOWN[key]) for key in said["sources"])


def test_five_chunks_are_the_default(api):
    shelf = made(api, {f"d{number}": f"Ferry number {number} sails." for number in range(8)})
    assert chat(api, use_documents_from=shelf)["usage"]["documentStore"]["chunks"] == 5


def test_sources_are_distinct_and_best_first(api):
    """Documents of many chunks: each is named once, in the order of its best chunk; quotes are what stands there."""
    shelf = made(api)
    texts = {
        "boats": "The ferry sails at noon. Boats depart often! Every boat departs. " * 3,
        "cats": "Cats sleep all the day. Boats depart? Not for cats. Cats only eat. " * 3,
    }
    for key, text in texts.items():
        answer = api.post(document_path(shelf, key), json={"content": text, "chunkSize": 25})
        assert answer.status_code == 201
    said = chat(api, use_documents_from=shelf, n_documents=10)
    keys = [each["documentKey"] for each in said["citations"]]
    assert said["sources"] == list(dict.fromkeys(keys))
    assert set(said["sources"]) == {"boats", "cats"}
    scores = [each["scores"]["fused"] for each in said["citations"]]
    assert scores == sorted(scores, reverse=True)
    assert said["usage"]["documentStore"]["chunks"] == 10
    for each in said["citations"]:
        whole = api.get(document_path(shelf, each["documentKey"]), params={"content": "true"}).json()["content"]
        assert whole == texts[each["documentKey"]]
        assert whole[each["start"] : each["end"]] == each["quote"] != ""
    numbers = list(dict.fromkeys(each["number"] for each in said["citations"]))  # neighbours share a passage's number
    assert numbers == list(range(1, len(numbers) + 1))


def test_quotes_count_code_points(api):
    text = "\U0001f600" * 30 + " The ferry \U0001f6a2 leaves at nine, ünïcode e\u0301 or not. " + "\U0001f600" * 30
    shelf = made(api)
    assert api.post(document_path(shelf, "d"), json={"content": text, "chunkSize": 20}).status_code == 201
    said = chat(api, use_documents_from=shelf, n_documents=3)
    for each in said["citations"]:
        assert text[each["start"] : each["end"]] == each["quote"]


# --- usage -----------------------------------------------------------------------------------------------------------


def test_usage_counts_what_was_used(api, native, town):
    said = chat(api, use_documents_from=town)["usage"]
    assert (said["inference"]["inputTokens"], said["inference"]["outputTokens"]) == (CITED_TOKENS, SAID_TOKENS)
    assert 3 <= said["inference"]["approxTextInputTokens"] <= 12
    assert 60 <= said["inference"]["approxContextTokens"] <= 200
    assert 15 <= said["inference"]["approxSystemTokens"] <= 50
    assert said["inference"]["approxImageInputTokens"] == 0
    assert 3 <= said["documentStore"]["embeddingTokens"] <= 12
    again = chat(api, use_documents_from=town)["usage"]
    assert again["apiKeyID"] == said["apiKeyID"]
    stored = api.put(document_path(town, "ferry"), json={"content": TOWN["ferry"]}).json()["usage"]
    assert stored["apiKeyID"] == said["apiKeyID"]
    with native.server.http(native.server.key(name="another")) as other:
        assert chat(other)["usage"]["apiKeyID"] != said["apiKeyID"]
    for secret in (native.server.admin_key, native.server.admin_key[3:]):
        assert secret not in json.dumps(said)


def test_history_and_system_prompt_are_counted_apart(api):
    plain = chat(api)["usage"]["inference"]
    longer = chat(api, chat_history=[["one two three four", "five six seven eight"]], system_prompt="")
    counted = longer["usage"]["inference"]
    assert counted["approxTextInputTokens"] > plain["approxTextInputTokens"] + 5
    assert counted["approxSystemTokens"] == 0
    assert plain["approxContextTokens"] == counted["approxContextTokens"] == 0


# --- streams ---------------------------------------------------------------------------------------------------------


def events(api, **fields):
    decoder, found = SseDecoder(), []
    body = {"model": TELLER, "input": "When do boats depart?", "stream": True} | fields
    with api.stream("POST", "/api/chat", json=body) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        for piece in answer.iter_bytes():
            found += [json.loads(event.data) for event in decoder.feed(piece)]
    return found


def test_a_stream_says_the_same_piece_by_piece(api, town):
    *pieces, last = events(api, use_documents_from=town)
    whole = chat(api, use_documents_from=town)
    assert all(list(each) == ["message"] for each in pieces)
    assert len(pieces) > 1
    assert "".join(each["message"] for each in pieces) == whole["message"] == SAID
    assert last["done"] is True
    assert is_time(last["created_at"])
    assert (last["model"], last["sources"], last["citations"]) == (TELLER, whole["sources"], whole["citations"])
    usage = last["usage"]["inference"]
    assert (usage["inputTokens"], usage["outputTokens"]) == (CITED_TOKENS, SAID_TOKENS)
    assert "message" not in last


def test_errors_before_a_stream_are_statuses(api):
    body = {"model": TELLER, "input": "a", "stream": True}
    said_no(api.post("/api/chat", json={**body, "temperature": 3}), 400, "temperature")
    said_no(api.post("/api/chat", json={**body, "use_documents_from": "nowhere"}), 404, "nowhere")
    said_no(api.post("/api/chat", json={**body, "stream": "true"}), 400, "stream")
    said_no(api.post("/api/chat", json={**body, "model": "nobody"}), 404, "nobody")
