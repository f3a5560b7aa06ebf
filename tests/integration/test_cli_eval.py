"""`narthex eval docs` against a real server: questions of a file, made-up ones, and the weight it sets."""

import csv
from pathlib import Path

import msgspec
import pytest
from tests.server_process import Server
from typer.testing import CliRunner

from narthex.cli.evaluate import app
from narthex.cli.server import Server as Connection
from narthex.cli.server import ServerRefused, path

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = pytest.mark.patient

TEXTS = {
    "ferry": "The ferry leaves from the eastern pier every hour. Bicycles travel for free on the upper deck.",
    "library": "The library lends out books for three weeks at a time. Late returns cost ten cents for every day.",
    "museum": "The museum shows paintings of the seventeenth century. On Mondays it is closed for everybody.",
    "swimming pool": "The swimming pool opens at seven in the morning. Children under six must wear arm bands there.",
}
QUESTIONS = {
    "When do boats depart?": "ferry",
    "How long may I keep a novel?": "library",
    "What is the fine for bringing it back late?": "library",
    "Where can I look at old pictures?": "museum",
    "Which day can I not visit the gallery?": "museum",
    "When can I go for a swim?": "swimming pool",
    "May I take my bike on the boat?": "ferry",
    "What must small kids wear in the water?": "swimming pool",
}


@pytest.fixture(scope="module")
def collection(server: Server) -> str:
    key = "town guide"
    with Connection(server.url, server.admin_key) as connection:
        connection.ask("POST", path("collections", key), body={"model": "all-minilm-l6-v2"})
        for name, text in TEXTS.items():
            connection.ask("POST", path("collections", key, "documents", name), body={"content": text})
    return key


def run(server: Server, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["docs", *arguments, "--url", server.url, "--data", str(server.data)])
    return result.exit_code, result.output


def test_questions_of_a_file(server: Server, collection: str, tmp_path: Path) -> None:
    file = tmp_path / "questions.csv"
    with file.open("w", newline="") as lines:
        rows = csv.writer(lines)
        rows.writerow(("question", "document"))
        rows.writerows(QUESTIONS.items())
    code, said = run(server, collection, "--questions", str(file), "--json")
    assert code == 0, said
    report = msgspec.json.decode(said.splitlines()[-1])
    found = {each["retrieval"]: each["measures"] for each in report["outcomes"]}
    assert found.keys() == {"hybrid", "vector", "keyword"}
    assert found["vector"]["recall_1"] >= 0.75  # a model that knows what the words mean
    assert found["hybrid"]["recall_10"] == 1
    assert 0 < report["weight"] < 1
    assert report["chosen_by"] == found["hybrid"]["questions"] == 4


def test_questions_are_made_up_and_the_weight_is_set(server: Server, collection: str) -> None:
    code, said = run(server, collection, "--made", "6", "--apply")
    assert code == 0, said
    assert "keyword" in said
    with Connection(server.url, server.admin_key) as connection:
        now = connection.ask("GET", path("collections", collection))
    assert f"is now {now['weight']:g}" in said
    assert now["retrieval"] == "hybrid"


def test_what_the_server_refuses_is_told(server: Server, tmp_path: Path) -> None:
    code, said = run(server, "nowhere")
    assert code == 1
    assert "nowhere" in said
    empty = tmp_path / "empty.csv"
    empty.write_text("question,document\n")
    code, said = run(server, "nowhere", "--questions", str(empty))
    assert code == 1
    assert "no questions" in said


def test_nobody_listens() -> None:
    with Connection("http://127.0.0.1:9", "nx-none") as connection, pytest.raises(ServerRefused, match="narthex serve"):
        connection.ask("GET", "/api/collections")


def test_a_collection_without_text_can_not_be_asked(server: Server) -> None:
    with Connection(server.url, server.admin_key) as connection:
        connection.ask("POST", path("collections", "bare"), body={"model": "all-minilm-l6-v2"})
    code, said = run(server, "bare")
    assert code == 1
    assert "too few sentences" in said
