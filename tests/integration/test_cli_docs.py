"""`narthex docs` against a real server, as one works with it in a terminal."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.server_process import EMBEDDING_MODEL, Server
from typer.testing import CliRunner

from narthex.cli import adding
from narthex.cli.docs import app

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]

pytestmark = pytest.mark.patient


class Terminal:
    """Runs commands on one server."""

    def __init__(self, server: Server) -> None:
        self._options = ["--url", server.url, "--data", str(server.data)]

    def __call__(self, *arguments: str, code: int = 0, stdin: str | None = None) -> str:
        result = CliRunner().invoke(app, [*arguments, *self._options], input=stdin)
        assert result.exit_code == code, (result.output, result.exception)
        return result.output

    def json(self, *arguments: str, code: int = 0) -> Any:
        result = CliRunner().invoke(app, [*arguments, "--json", *self._options])
        assert result.exit_code == code, (result.output, result.exception)
        return json.loads(result.stdout)


@pytest.fixture
def run(server: Server) -> Terminal:
    return Terminal(server)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "town"
    (root / "sights").mkdir(parents=True)
    (root / "ferry.md").write_text("# Ferry\n\nThe ferry leaves from the eastern pier every hour.\n")
    (root / "sights" / "museum.txt").write_text("The museum shows paintings of the seventeenth century.")
    (root / ".hidden").write_text("x")
    return root


@pytest.fixture
def key(run: Terminal, request: pytest.FixtureRequest) -> str:
    name = request.node.name[5:37].rstrip("[]")
    assert "Made" in run("create", name, "--model", EMBEDDING_MODEL, "--description", "A town")
    return name


def test_a_collection_is_made_with_its_way_of_searching(run):
    run("create", "by-words", "--model", EMBEDDING_MODEL, "--retrieval", "keyword")
    run("create", "mostly-meaning", "--model", EMBEDDING_MODEL, "--weight", "0.8")
    made = {each["key"]: each for each in run.json("list")}
    assert made["by-words"]["retrieval"] == "keyword"
    assert (made["mostly-meaning"]["retrieval"], made["mostly-meaning"]["weight"]) == ("hybrid", 0.8)


def test_a_folder_is_put_in_searched_and_looked_at(run, key, folder):
    assert "2 added" in run("add", key, str(folder))
    assert "0 added (0 chunks), 2 unchanged, 0 failed." in run("add", key, str(folder))
    (folder / "ferry.md").write_text("# Ferry\n\nThe ferry leaves from the western pier now.\n")
    told = run.json("add", key, str(folder))
    assert {each["document"]: each["what"] for each in told} == {
        "town:ferry.md": "added",
        "town:sights:museum.txt": "unchanged",
    }
    assert "western pier" in run("search", key, "where do boats leave")
    explained = run("search", key, "where do boats leave", "--explain", "-n", "1")
    assert "town:ferry.md" in explained
    assert "weight" in explained
    assert run.json("search", key, "paintings", "--document", "town:sights:museum.txt")["sources"] == [
        "town:sights:museum.txt"
    ]
    assert run.json("search", key, "boats", "--retrieval", "keyword")["sources"] == []
    assert "town:ferry.md" in run("show", key)
    assert "mediaType" in run("show", key, "town:ferry.md")
    assert run("show", key, "town:ferry.md", "--content").endswith("western pier now.\n")
    assert key in run("list")
    assert key in {each["key"] for each in run.json("list")}
    assert "done" in run("jobs", key)


def test_files_that_fail_are_listed_with_their_reasons(run, key, folder):
    bad = folder / "broken.pdf"
    bad.write_bytes(b"%PDF-1.7 and then nothing")
    output = run("add", key, str(folder), str(bad), code=1)
    assert "2 added" in output
    assert "1 failed" in output
    assert "town/broken.pdf: " in output or "broken.pdf: " in output
    [failed] = [each for each in run.json("add", key, str(bad), code=1) if each["what"] == "failed"]
    assert failed["error"]


def test_documents_and_collections_are_removed(run, key, folder):
    run("add", key, str(folder))
    assert "Removed town:ferry.md" in run("rm", key, "town:ferry.md")
    assert [each["key"] for each in run.json("show", key)] == ["town:sights:museum.txt"]
    assert "no document" in run("rm", key, "town:ferry.md", code=1)
    run("delete", key, code=1, stdin="n\n")
    assert "Deleted" in run("delete", key, "--yes")
    assert "no collection" in run("show", key, code=1)


def test_a_collection_is_rebuilt_saved_and_read_again(run, key, folder, tmp_path):
    run("add", key, str(folder))
    assert "made anew" in run("rebuild", key, "--chunk-size", "40", "--mode", "windows")
    assert {each["chunkSize"] for each in run.json("show", key)} == {40}
    saved = tmp_path / "town.narthex"
    assert "Saved" in run("export", key, str(saved))
    assert "exists already" in run("export", key, str(saved), code=1)
    told = run.json("import", f"{key[:28]}-2", str(saved))
    assert told["result"] == {"documents": 2, "reusedVectors": True}
    assert "The ferry leaves" in run("search", f"{key[:28]}-2", "ferry")
    assert "exists already" in run("import", key, str(saved), code=1)
    assert not list(tmp_path.glob(".*.part"))


def test_what_is_wrong_is_told(run, key, folder, tmp_path):
    assert "no collection" in run("add", "nothing", str(folder), code=1)
    assert "There is no file or folder" in run("add", key, str(tmp_path / "nothing"), code=1)
    assert "chunkSize" in run("add", key, str(folder), "--chunk-size", "1000000", code=1)
    (tmp_path / "text.narthex").write_text("x")
    assert "can't be imported" in run("import", "other", str(tmp_path / "text.narthex"), code=1)
    assert "no collection" in run("export", "nothing", str(tmp_path / "x"), code=1)
    unreachable = CliRunner().invoke(
        app, ["list", "--url", "http://127.0.0.1:1", "--key-file", str(folder / ".hidden")]
    )
    assert unreachable.exit_code == 1
    assert "can't be reached" in unreachable.output


def test_ctrl_c_stops_the_sending_and_says_what_goes_on(run, key, folder, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(adding.Adding, "_look", interrupted)
    output = run("add", key, str(folder), code=130)
    assert "The server goes on with 2 files" in output
    jobs = run.json("jobs", key)
    assert len(jobs) == 2
