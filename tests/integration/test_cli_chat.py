"""`narthex chat` against a real server: one question, a conversation, and what it says when something is wrong."""

import asyncio
import io
from pathlib import Path

import pytest
import typer
from rich.console import Console
from tests.server_process import Server
from typer.testing import CliRunner

from narthex.cli.chat import Conversation, _answer, _converse, chat
from narthex.cli.server import ServerRefused
from narthex.testing.scripted import END, Reply, ScriptedUpstream, response, sse, stream_head

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]

app = typer.Typer()
app.command()(chat)


def run(server: Server, *arguments: str, text: str | None = None) -> tuple[int, str]:
    options = ["--url", server.url, "--data", str(server.data), "--max-tokens", "4", "--temperature", "0"]
    result = CliRunner().invoke(app, [*options, *arguments], input=text)
    return result.exit_code, result.output


def test_answers_one_question(server: Server) -> None:
    code, said = run(server, "Tell me a story about a fox.")
    assert code == 0
    assert said.strip()


def test_reads_the_question_from_a_pipe(server: Server) -> None:
    code, said = run(server, "--system", "You are brief.", text="What is the capital of France?")
    assert code == 0
    assert said.strip()


def test_a_key_may_be_in_a_file_of_its_own(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(server.admin_key + "\n")
    code, _ = run(server, "--key-file", str(file), "Hi")
    assert code == 0


def test_says_what_the_server_says(server: Server) -> None:
    code, said = run(server, "--model", "nobody", "Hi")
    assert code == 1
    assert "nobody" in said


def test_without_a_key_there_is_nobody_to_ask(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["--data", str(tmp_path), "Hi"])
    assert result.exit_code == 2


@pytest.mark.parametrize("question", [True, False])
def test_says_that_nobody_listens(tmp_path: Path, *, question: bool) -> None:
    file = tmp_path / "key"
    file.write_text("nx-none")
    options = ["--url", "http://127.0.0.1:9", "--key-file", str(file)]
    result = CliRunner().invoke(app, [*options, *(["--model", "m"] if question else []), "Hi"])
    assert result.exit_code == 1
    assert "narthex serve" in result.output


def test_a_conversation_remembers(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = iter(["My name is Ada.", "   ", "What is my name?"])

    def asked(*_: object) -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    console = Console(file=io.StringIO())
    monkeypatch.setattr(console, "input", asked)
    with Conversation(server.url, server.admin_key, system=None, options={"max_tokens": 3}) as conversation:
        conversation.model = conversation.first_model()
        _converse(conversation, console)
        roles = [message["role"] for message in conversation._messages]
    assert roles == ["user", "assistant"] * 2


def test_ctrl_c_stops_an_answer_and_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    class Interrupted(Conversation):
        def ask(self, text: str):  # type: ignore[no-untyped-def]
            yield text
            raise KeyboardInterrupt

    with Interrupted("http://127.0.0.1:9", "k", system=None, options={}) as conversation:
        _answer(conversation, "so far")
    assert capsys.readouterr().out == "so far …\n"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(response(b"oh", status=500)), "status 500"),
        (Reply(stream_head(), sse(b'{"error": {"message": "It broke."}}')), "It broke."),
        (Reply(stream_head(), sse(b'{"choices": [{"delta": {"content": "x"}}]}'), END), "too early"),
    ],
)
async def test_a_broken_answer_is_said_so(reply: Reply, said: str) -> None:
    async with ScriptedUpstream(reply) as upstream:

        def ask() -> str:
            with Conversation(upstream.url, "k", system=None, options={}) as conversation:
                conversation.model = "m"
                try:
                    return "".join(conversation.ask("Hi"))
                except ServerRefused as error:
                    return str(error)

        assert said in await asyncio.to_thread(ask)


@pytest.mark.anyio
async def test_a_server_without_a_model_that_chats() -> None:
    listed = b'{"data": [{"id": "all-minilm-l6-v2"}]}'
    async with ScriptedUpstream(Reply(response(listed))) as upstream:

        def first() -> str:
            with Conversation(upstream.url, "k", system=None, options={}) as conversation:
                return conversation.first_model()

        with pytest.raises(ServerRefused, match="--model"):
            await asyncio.to_thread(first)
