"""Every field of `/api/chat` with what it may be, what it may not be, and what goes to the model for it."""

import base64

import pytest
from tests.images import PNG
from tests.native_calls import WRITER, Json, fresh, is_time, is_uuid, made, said_no
from tests.server_process import EMBEDDING_MODEL

pytest_plugins = ["tests.models_fixture", "tests.server_fixture", "tests.native_fixture"]
pytestmark = pytest.mark.patient

URL = "data:image/png;base64," + base64.b64encode(PNG).decode()
PAIR = ["Hello!", "Hi."]
BOTH = "{{Context}}{{UserInput}}"
PATHS = ("/api/chat", "/api/text")


def chat(api, path="/api/chat", **fields):
    return api.post(path, json={"model": WRITER, "input": "What is it?"} | fields)


@pytest.fixture(scope="module")
def shelf(api) -> str:
    return made(api, {"d": "The ferry leaves at nine."})


# --- what it may not be ----------------------------------------------------------------------------------------------

NOT_TEXT = {"null": None, "number": 1, "boolean": True, "array": ["a"], "object": {"a": 1}}
NOT_NUMBERS = {"string": "1", "true": True, "false": False, "array": [1], "object": {}}


def wrong(field, values, **more):
    return [pytest.param({field: value, **more}, field, id=f"{field} {name}") for name, value in values.items()]


REFUSED = [
    *wrong("model", NOT_TEXT),
    *wrong("input", NOT_TEXT | {"empty": ""}),
    *wrong(
        "chat_history",
        {
            "string": "a",
            "object": {},
            "number": 1,
            "eleven": [PAIR] * 11,
            "item a string": ["ab"],
            "item an object": [{"user": "a", "assistant": "b"}],
            "item empty": [[]],
            "item of one": [["a"]],
            "item of three": [["a", "b", "c"]],
            "item null": [None],
            "second item of one": [PAIR, ["a"]],
            "null in a pair": [["a", None]],
            "number in a pair": [[1, "b"]],
            "flat": ["a", "b"],
        },
    ),
    *wrong("use_documents_from", {"number": 1, "boolean": True, "array": ["a"], "object": {}}),
    *wrong("n_documents", {"0": 0, "51": 51, "below 0": -1, "not whole": 1.5, "huge": 10**30} | NOT_NUMBERS),
    *wrong(
        "image",
        {
            "number": 1,
            "array": [URL],
            "empty": "",
            "words": "a picture",
            "address": "https://images.example/a.png",
            "bare base64": base64.b64encode(PNG).decode(),
            "text": "data:text/plain;base64,aGk=",
            "not base64": "data:image/png,abc",
            "broken base64": "data:image/png;base64,%%%",
            "no data": "data:image/png;base64,",
            "sample of the documentation": "...KVyj//Z",
        },
    ),
    *wrong("system_prompt", {"number": 1, "boolean": True, "array": ["a"], "object": {}}),
    *wrong(
        "rag_prompt",
        {
            "number": 1,
            "array": [BOTH],
            "empty": "",
            "sample of the documentation": "string",
            "no context": "{{UserInput}}",
            "no input": "{{Context}}",
            "other case": "{{context}}{{userinput}}",
            "blanks": "{{ Context }}{{ UserInput }}",
            "single braces": "{Context}{UserInput}",
        },
    ),
    *wrong("frequency_penalty", {"low": -2.01, "high": 2.01, "huge": 1e308} | NOT_NUMBERS),
    *wrong("presence_penalty", {"low": -2.01, "high": 2.01} | NOT_NUMBERS),
    *wrong("temperature", {"low": -0.1, "high": 2.1} | NOT_NUMBERS),
    *wrong("top_p", {"low": -0.1, "high": 1.01, "minus one": -1} | NOT_NUMBERS),
    *wrong("max_tokens", {"unknown": 5}),
    *wrong("messages", {"unknown": [{"role": "user", "content": "a"}]}),
    *wrong("stop", {"unknown": "a"}),
    *wrong("n", {"unknown": 1}),
    *wrong("seed", {"unknown": 1}),
    *wrong("Temperature", {"other case": 1}),
    *wrong("chatHistory", {"camel case": []}),
    *wrong("Input", {"beside the real one": "a"}),
]


@pytest.mark.parametrize(("fields", "named"), REFUSED)
def test_what_a_field_may_not_be(api, shelf, heard, fields, named):
    said_no(chat(api, **{"use_documents_from": shelf} | fields), 400, named)
    assert heard.bodies == []


@pytest.mark.parametrize("missing", ["model", "input"])
def test_a_required_field_is_missed_by_its_name(api, missing):
    body = {"model": WRITER, "input": "What?"}
    del body[missing]
    for path in PATHS:
        said_no(api.post(path, json=body), 400, missing)


def test_unknown_models_and_collections_are_404(api, heard):
    said_no(chat(api, model="nobody-knows-me"), 404, "nobody-knows-me")
    said_no(chat(api, model=WRITER.upper()), 404, WRITER.upper())
    key = fresh()
    said_no(chat(api, use_documents_from=key), 404, key)
    said_no(chat(api, use_documents_from="k" * 33), 404)
    said_no(chat(api, use_documents_from="a/b"), 404)
    assert heard.bodies == []


def test_a_model_of_vectors_does_not_chat(api):
    answer = chat(api, model=EMBEDDING_MODEL)
    assert answer.status_code in {400, 404}
    said_no(answer, answer.status_code, "model")


def test_a_prompt_for_documents_is_only_for_chats_over_documents(api, heard):
    said_no(chat(api, rag_prompt=BOTH), 400, "rag_prompt")
    assert heard.bodies == []


# --- what it may be --------------------------------------------------------------------------------------------------

ACCEPTED = [
    pytest.param(fields, id=name)
    for name, fields in {
        "nothing more": {},
        "no history": {"chat_history": []},
        "ten pairs": {"chat_history": [PAIR] * 10},
        "empty strings": {"chat_history": [["", ""], ["a", ""]]},
        "one document": {"n_documents": 1},
        "fifty documents": {"n_documents": 50},
        "image": {"image": URL},
        "no system prompt": {"system_prompt": ""},
        "placeholders only": {"rag_prompt": BOTH},
        "placeholders twice": {"rag_prompt": BOTH * 2},
        "penalties lowest": {"frequency_penalty": -2, "presence_penalty": -2.0},
        "penalties highest": {"frequency_penalty": 2.0, "presence_penalty": 2},
        "coldest": {"temperature": 0},
        "hottest": {"temperature": 2},
        "smallest top_p": {"top_p": 0},
        "largest top_p": {"top_p": 1.0},
        "exponents": {"temperature": 1e-1},
        "nulls": dict.fromkeys(
            (
                "chat_history",
                "n_documents",
                "image",
                "system_prompt",
                "rag_prompt",
                "frequency_penalty",
                "presence_penalty",
                "temperature",
                "top_p",
            )
        ),
    }.items()
]


@pytest.mark.parametrize("fields", ACCEPTED)
def test_what_a_field_may_be(api, shelf, heard, fields):
    answer = chat(api, use_documents_from=shelf, **fields)
    assert answer.status_code == 200, answer.text
    assert answer.json()["sources"] == ["d"]
    assert len(heard.bodies) == 1
    for name in ("frequency_penalty", "presence_penalty", "temperature", "top_p"):
        assert heard.last.get(name) == fields.get(name)


def test_only_what_was_sent_is_sent_on(api, heard):
    assert chat(api, temperature=None).status_code == 200
    assert set(heard.last) <= {"model", "messages", "stream", "stream_options"}


def test_a_number_of_documents_without_documents_is_ignored_and_named(api):
    answer = chat(api, n_documents=3)
    assert answer.status_code == 200
    assert "n_documents" in answer.headers["x-narthex-ignored"]
    assert "x-narthex-ignored" not in chat(api).headers


def test_an_image_goes_to_the_model_beside_the_text(api, heard):
    assert chat(api, image=URL, chat_history=[PAIR]).status_code == 200
    assert heard.messages[1:3] == [{"role": "user", "content": PAIR[0]}, {"role": "assistant", "content": PAIR[1]}]
    last = heard.messages[-1]
    assert last["role"] == "user"
    kinds = {part["type"]: part for part in last["content"]}
    assert set(kinds) == {"text", "image_url"}
    assert kinds["text"]["text"] == "What is it?"
    assert kinds["image_url"]["image_url"]["url"] == URL


# --- the answer ------------------------------------------------------------------------------------------------------

COUNTS = (
    "approxTextInputTokens",
    "approxImageInputTokens",
    "approxContextTokens",
    "approxSystemTokens",
    "inputTokens",
    "outputTokens",
    "duration",
)
FOUND = ("embeddingTokens", "chunks", "chunkSizeSum", "duration")


def has_its_form(said: Json) -> None:
    assert set(said) == {"model", "created_at", "message", "sources", "usage", "citations", "warnings"}
    assert is_time(said["created_at"])
    usage = said["usage"]
    assert set(usage) == {"apiKeyID", "chatModel", "embeddingModel", "inference", "documentStore"}
    assert is_uuid(usage["apiKeyID"])
    assert isinstance(usage["chatModel"], str)
    assert set(usage["inference"]) == set(COUNTS)
    counts = list(usage["inference"].values())
    if usage["documentStore"] is not None:
        assert set(usage["documentStore"]) == set(FOUND)
        counts += usage["documentStore"].values()
    assert all(type(each) is int and each >= 0 for each in counts)


@pytest.mark.parametrize("path", PATHS)
def test_an_answer_has_the_form_of_the_sample(api, shelf, path):
    said = chat(api, path, use_documents_from=shelf).json()
    has_its_form(said)
    assert (said["model"], said["sources"], said["usage"]["embeddingModel"]) == (WRITER, ["d"], EMBEDDING_MODEL)
    plain = chat(api, path).json()
    has_its_form(plain)
    assert (plain["model"], plain["sources"], plain["citations"]) == (WRITER, [], [])
    assert (plain["usage"]["documentStore"], plain["usage"]["embeddingModel"]) == (None, None)


def test_no_get(api):
    for path in PATHS:
        said_no(api.get(path), 405)
