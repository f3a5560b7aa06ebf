"""What document tools are reproached with, each by its number: that nothing is found, that sources are wrong, that
uploads get lost. Those that are not here have their tests where the part is, and docs/design/documents.md tells why
some can't happen."""

import itertools
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.files_made import pdf
from tests.native_calls import document_path, fresh
from tests.process.test_background import Counting, ended, listening
from tests.server_process import EMBEDDING_MODEL, Server, StartServer

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = pytest.mark.patient

QUICK, WRITER = "quick", "writer"
"""Models at a scripted server: vectors that cost nothing, and answers that a test chooses."""
PROSE = "\n\n".join(
    f"In chapter {number} the crew of the ferry meets the harbour master again." for number in range(12)
)
FACTS = {
    "ferries": "The ferry leaves the eastern pier every hour.",
    "trains": "The night train has a dining car.",
    "bread": "Bread needs flour, water and salt.",
}

Json = dict[str, Any]


class Far(Counting):
    """Vectors as `Counting` makes them; chats are answered with `says`, and their prompts kept."""

    def __init__(self) -> None:
        super().__init__()
        self.says = "It says so in [1]."
        self.chats: list[list[Json]] = []

    def answer(self, body: Json) -> tuple[int, Json]:
        if "messages" not in body:
            return super().answer(body)
        self.chats.append(body["messages"])
        message = {"role": "assistant", "content": self.says}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        return 200, {
            "id": "x",
            "object": "chat.completion",
            "created": 1,
            "model": "x",
            "choices": choices,
            "usage": usage,
        }


@pytest.fixture(scope="module")
def far() -> Iterator[tuple[Far, str]]:
    it = Far()
    with listening(it) as address:
        yield it, address


@pytest.fixture(scope="module")
def server(start_server: StartServer, far: tuple[Far, str]) -> Iterator[Server]:
    provider = {"type": "openai", "base_url": far[1], "api_key": "x", "models": {"chat": {"kind": "chat"}}}
    config = {
        "providers": {"far": provider},
        "models": [
            {"name": QUICK, "deployments": ["far/embed"]},
            {"name": WRITER, "deployments": ["far/chat"]},
        ],
        "engine": {"default": None},
    }
    with start_server(config, models=(EMBEDDING_MODEL,)) as running:
        yield running


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx2.Client]:
    with server.http() as it:
        yield it


class Shelf:
    """A collection."""

    def __init__(self, http: httpx2.Client, documents: dict[str, str], *, model: str = EMBEDDING_MODEL) -> None:
        self.http, self.key = http, fresh()
        self.path = f"/api/collections/{self.key}"
        made = http.post(self.path, json={"model": model})
        assert made.status_code == 201, made.text
        self.id = made.json()["id"]
        for key, text in documents.items():
            self.put(key, text)

    def put(self, key: str, text: str, **fields: Any) -> None:
        answer = self.http.put(document_path(self.key, key), json={"content": text, **fields})
        assert answer.status_code in {200, 201}, answer.text

    def upload(self, name: str, content: bytes, *, wait: int = 0, **fields: Any) -> Json:
        file = {"file": (name, content)}
        answer = self.http.post(f"{self.path}/files", params={"wait": wait}, data=fields, files=file)
        assert answer.status_code in {200, 201, 202}, answer.text
        return dict(answer.json()["jobs"][0])

    def search(self, query: str, **fields: Any) -> Json:
        answer = self.http.post(f"{self.path}/search", json={"query": query, **fields})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def chat(self, question: str, **fields: Any) -> Json:
        body = {"model": WRITER, "input": question, "use_documents_from": self.key, **fields}
        answer = self.http.post("/api/chat", json=body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


@pytest.fixture(scope="module")
def facts(http: httpx2.Client) -> Shelf:
    return Shelf(http, FACTS)


@pytest.fixture(scope="module")
def program(http: httpx2.Client) -> Shelf:
    texts = {
        "by-id": "def getUserById(id): return rows[id]",
        "by-name": "def getUserByName(name): return rows[name]",
        "ssl": "The browser says ERR_SSL_PROTOCOL: look at the certificate.",
        "dns": "The browser says ERR_DNS_TIMEOUT: look at the network.",
        "option": "With foo_bar the cache is on.",
        "others": "Here foo is, and there bar is.",
        "vector": "Bytes are kept in a std::vector.",
        "map": "Pairs are kept in a std::map.",
    }
    return Shelf(http, texts)


@pytest.fixture(scope="module")
def languages(http: httpx2.Client) -> Shelf:
    texts = {
        "russian": "Выручка компании выросла благодаря продажам в Сибири.",
        "greek": "Έσοδα από τον τουρισμό στην Κρήτη αυξήθηκαν.",
        "chinese": "公司规定员工每年有十五天带薪年假、病假需要医生证明。",
        "japanese": "社員は毎年十五日の有給休暇を取得できます。",
        "korean": "직원은 매년 십오 일의 유급 휴가를 사용할 수 있습니다.",
        "arabic": "يحق للموظف الحصول على الإجازة السنوية مدفوعة الأجر.",
        "thai": "พนักงานมีสิทธิ์ลาพักร้อนปีละสิบห้าวันโดยได้รับค่าจ้าง",
        "hebrew": "לעובד מגיעים ימי חופשה בתשלום בכל שנה.",
        "hindi": "कर्मचारी को हर साल सवैतनिक अवकाश मिलता है।",
    }
    return Shelf(http, texts)


# --- nothing is found ------------------------------------------------------------------------------------------------


def test_complaint_1_a_question_about_a_whole_document_can_be_given_all_of_it(http: httpx2.Client) -> None:
    shelf = Shelf(http, {})
    shelf.put("novel", PROSE, chunkSize=72)
    shelf.put("other", "Something else stands here.")
    found = shelf.chat("Summarise this document.", documents=["novel"], n_documents=50, explain=True)
    assert found["sources"] == ["novel"]
    assert PROSE.split() == found["explain"]["context"].removeprefix("[1] novel\n").split()


def test_complaint_2_a_pdf_is_found_with_every_setting_left_alone(http: httpx2.Client) -> None:
    shelf = Shelf(http, {})
    assert (
        shelf.upload("report.pdf", pdf([["Cover"], ["The turbine was replaced in May."]]), wait=60)["state"] == "done"
    )
    best = shelf.search("When was the turbine replaced?")["citations"][0]
    assert (best["documentKey"], "turbine" in best["quote"]) == ("report.pdf", True)


def test_complaint_7_one_limit_holds_for_all_documents_together(http: httpx2.Client) -> None:
    shelf = Shelf(http, {f"d{number}": f"Ferry number {number} leaves the pier." for number in range(12)})
    assert len(shelf.chat("Which ferry leaves the pier?")["citations"]) == 5
    small = shelf.chat("Which ferry leaves the pier?", n_documents=12, token_budget=40, explain=True)
    assert small["explain"]["contextTokens"] <= 40
    assert 1 <= len(small["citations"]) < 12


def test_complaint_8_every_row_of_a_large_table_is_found_by_its_values(http: httpx2.Client) -> None:
    rows = [
        f"ORD-{100000 + at},customer {at % 977},SKU-{at * 7919 % 10**6:06d},{at % 99},day {at % 365}"
        for at in range(20_000)
    ]
    shelf = Shelf(http, {}, model=QUICK)
    job = shelf.upload("orders.csv", "\n".join(["order,customer,product,quantity,day", *rows]).encode())
    assert ended(http, shelf.path, job["id"])["state"] == "done"
    for row in (rows[0], rows[9_999], rows[-1]):
        order = row.partition(",")[0]
        for question in (order, f"Which product was ordered in {order}?"):
            assert row in shelf.search(question, n=1, retrieval="keyword")["citations"][0]["quote"]
            assert any(row in each["quote"] for each in shelf.search(question)["citations"])


@pytest.mark.parametrize("retrieval", ["keyword", "hybrid"])
@pytest.mark.parametrize(
    ("question", "key"),
    [
        ("getUserById", "by-id"),
        ("What does getUserById() return?", "by-id"),
        ("ERR_SSL_PROTOCOL", "ssl"),
        ("foo_bar", "option"),
        ("std::vector", "vector"),
    ],
)
def test_complaint_9_identifiers_are_found_as_they_are_written(
    program: Shelf, question: str, key: str, retrieval: str
) -> None:
    assert program.search(question, n=3, retrieval=retrieval)["citations"][0]["documentKey"] == key


@pytest.mark.parametrize("retrieval", ["keyword", "hybrid"])
@pytest.mark.parametrize(
    ("question", "key"),
    [
        ("выручка в Сибири", "russian"),
        ("τουρισμό Κρήτη", "greek"),
        ("年假", "chinese"),
        ("有給休暇", "japanese"),
        ("휴가", "korean"),
        ("الإجازة السنوية", "arabic"),
        ("ลาพักร้อน", "thai"),
        ("חופשה בתשלום", "hebrew"),
        ("अवकाश", "hindi"),
    ],
)
def test_complaint_10_texts_of_any_script_are_found(languages: Shelf, question: str, key: str, retrieval: str) -> None:
    assert languages.search(question, n=3, retrieval=retrieval)["citations"][0]["documentKey"] == key


# --- citations -------------------------------------------------------------------------------------------------------


def test_complaint_14_a_number_in_the_context_is_that_of_its_citation(http: httpx2.Client) -> None:
    shelf = Shelf(http, FACTS)
    shelf.put("novel", PROSE, chunkSize=72)
    found = shelf.chat("Where does the ferry leave?", n_documents=9, explain=True)
    blocks = dict(re.findall(r"^\[(\d+)\] (\S+)$", found["explain"]["context"], re.MULTILINE))
    assert len(blocks) > 2
    assert {str(each["number"]): each["documentKey"] for each in found["citations"]} == blocks
    for each in found["citations"]:
        block = (
            found["explain"]["context"]
            .partition(f"[{each['number']}] ")[2]
            .partition(f"\n\n[{each['number'] + 1}] ")[0]
        )
        assert " ".join(each["quote"].split()) in " ".join(block.split())


def test_complaint_16_words_that_stand_nowhere_have_no_sources(facts: Shelf) -> None:
    assert facts.search("xylophone zebra", retrieval="keyword")["sources"] == []
    scores = [each["scores"]["vector"] for each in facts.search("xylophone zebra")["citations"]]
    assert all(score < 0.3 for score in scores)  # which is what tells that nothing fits


def test_complaint_19_a_number_that_stands_for_nothing_is_told(facts: Shelf, far: tuple[Far, str]) -> None:
    far[0].says = "See [1] and [7], and [7] again."
    try:
        assert facts.chat("Why?", n_documents=2)["warnings"] == [
            "The answer refers to [7], which the model was not given."
        ]
    finally:
        far[0].says = "It says so in [1]."
    assert facts.chat("Why?", n_documents=2)["warnings"] == []


# --- changes ---------------------------------------------------------------------------------------------------------


def test_complaint_21_a_deleted_file_leaves_nothing_to_find(http: httpx2.Client) -> None:
    shelf = Shelf(http, {"stays": "Bread needs flour."})
    shelf.upload("gone.txt", b"The password of the vault is xylophone.", wait=60)
    assert http.delete(document_path(shelf.key, "gone.txt")).status_code == 204
    for retrieval in ("keyword", "vector", "hybrid"):
        assert "gone.txt" not in shelf.search("password of the vault", retrieval=retrieval)["sources"]
    assert "vault" not in shelf.chat("What is the password of the vault?", explain=True)["explain"]["context"]


def test_complaint_24_a_collection_is_one_file_however_many_documents(server: Server, http: httpx2.Client) -> None:
    shelf = Shelf(http, {f"d{number}": f"Text {number}." for number in range(8)})
    files = [path for path in (server.data / "collections" / shelf.id).iterdir() if path.suffix == ".db"]
    assert [path.name for path in files] == ["c.db"]
    assert _uploads(server.data) == []


def _uploads(data: Path) -> list[Path]:
    return [path for path in (data / "uploads").rglob("*") if path.is_file()]


def test_complaint_30_whatever_is_asked_right_after_an_upload_is_no_error(http: httpx2.Client) -> None:
    shelf = Shelf(http, {})
    job = shelf.upload("timetable.txt", b"The ferry leaves at noon.")
    assert shelf.search("ferry")["sources"] in ([], ["timetable.txt"])
    assert shelf.chat("When does the ferry leave?")["sources"] in ([], ["timetable.txt"])
    assert ended(http, shelf.path, job["id"])["state"] == "done"
    assert shelf.chat("When does the ferry leave?")["sources"] == ["timetable.txt"]


def test_complaint_29_files_at_once_hold_up_no_search(http: httpx2.Client, facts: Shelf) -> None:
    shelf = Shelf(http, {}, model=QUICK)
    text = "\n\n".join(f"Thing {number} has a name." for number in range(2000)).encode()
    with ThreadPoolExecutor(4) as threads:
        jobs = list(threads.map(lambda number: shelf.upload(f"{number}.txt", text, chunkSize=100), range(4)))
    began_s = time.monotonic()
    assert facts.search("ferry")["sources"][0] == "ferries"
    assert time.monotonic() - began_s < 20
    assert {ended(http, shelf.path, job["id"])["state"] for job in jobs} == {"done"}


# --- options ---------------------------------------------------------------------------------------------------------


def test_complaint_34_a_filter_is_kept_to_and_a_name_that_is_not_there_is_told(facts: Shelf) -> None:
    for ask in (facts.search, facts.chat):
        found = ask("Where does the ferry leave?", documents=["bread"])
        assert (found["sources"], found["warnings"]) == (["bread"], [])
        found = ask("Where does the ferry leave?", documents=["bread", "nobody"])
        assert found["sources"] == ["bread"]
        assert found["warnings"] == [f"There is no document 'nobody' in the collection '{facts.key}'."]
        found = ask("Where does the ferry leave?", documents=["nobody"])
        assert (found["sources"], "'nobody'" in found["warnings"][0]) == ([], True)


def test_complaint_35_every_way_to_search_is_open_to_every_collection(facts: Shelf) -> None:
    for retrieval in ("hybrid", "vector", "keyword"):
        assert facts.search("ferry pier", retrieval=retrieval, n=1)["sources"] == ["ferries"]


def test_complaint_38_a_turn_begins_with_all_of_the_last_one(facts: Shelf, far: tuple[Far, str]) -> None:
    said: list[list[str]] = []
    for question in ("Where is the ferry?", "And the night train?", "What does bread need?"):
        answer = facts.chat(question, chat_history=said)["message"]
        said.append([question, answer])
    turns = far[0].chats[-3:]
    for before, after in itertools.pairwise(turns):
        assert after[: len(before) - 1] == before[:-1]
