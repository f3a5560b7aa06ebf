"""`narthex chat`: talk to a model of a running server, in the terminal."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Self

import httpx2
import msgspec
import typer
from rich.console import Console

from narthex.cli.keys import DEFAULT_DATA, Data
from narthex.cli.server import DEFAULT_URL, Server, ServerRefused
from narthex.engine.models.catalogue import CATALOGUE
from narthex.storage.adminkey import read_admin_key
from narthex.wire.sse import SseDecoder


def chat(
    prompt: Annotated[str | None, typer.Argument(help="Ask this and end; without it, a conversation.")] = None,
    *,
    model: Annotated[str | None, typer.Option(help="Which model; the first chat model when left out.")] = None,
    url: Annotated[str, typer.Option(help="Where the server is.")] = DEFAULT_URL,
    system: Annotated[str | None, typer.Option(help="A system message to begin with.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0, max=2, help="How freely it chooses words.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="The longest answer.")] = None,
    key_file: Annotated[
        Path | None, typer.Option(help="A file with an API key.  \\[default: <data>/admin.key]")
    ] = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Talk to a model of a running server. Ctrl-C stops an answer, Ctrl-D ends the conversation."""
    console = Console(stderr=True, highlight=False)
    key = key_file.read_text(encoding="utf-8").strip() if key_file is not None else _admin_key(data)
    options = {"temperature": temperature, "max_tokens": max_tokens}
    conversation = Conversation(
        url, key, system=system, options={name: value for name, value in options.items() if value is not None}
    )
    try:
        with conversation:
            conversation.model = model or conversation.first_model()
            if prompt is not None or not sys.stdin.isatty():
                _answer(conversation, prompt if prompt is not None else sys.stdin.read())
            else:
                _converse(conversation, console)
    except ServerRefused as error:
        console.print(f"[red]narthex:[/red] {error}", soft_wrap=True)
        raise typer.Exit(1) from None


def _admin_key(data: Path) -> str:
    secret = read_admin_key(data)
    if secret is None:
        raise typer.BadParameter(f"There is no admin.key in {data}: give --data or --key-file.")
    return secret.reveal()


def _converse(conversation: "Conversation", console: Console) -> None:
    console.print(f"[dim]{conversation.model} — Ctrl-C stops an answer, Ctrl-D ends.[/dim]")
    while True:
        try:
            text = console.input("[bold]> [/bold]")
        except (EOFError, KeyboardInterrupt):
            console.print()
            return
        if text.strip():
            _answer(conversation, text)


def _answer(conversation: "Conversation", text: str) -> None:
    try:
        for piece in conversation.ask(text):
            sys.stdout.write(piece)
            sys.stdout.flush()
    except KeyboardInterrupt:
        sys.stdout.write(" …")
    sys.stdout.write("\n")


class Conversation:
    """The messages so far, and the connection to the server. Close it, or use it as a context manager."""

    def __init__(self, url: str, key: str, *, system: str | None, options: dict[str, Any]) -> None:
        self._server = Server(url, key)
        self._messages: list[dict[str, str]] = [{"role": "system", "content": system}] if system else []
        self._options = options
        self.model = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.http.close()

    def first_model(self) -> str:
        """A model that chats, by the server's own list.

        Raises:
            ServerRefused: there is none.
        """
        listed = self._server.ask("GET", "/v1/models")
        names = [row["id"] for row in listed["data"]]
        chatty = [name for name in names if name not in CATALOGUE or CATALOGUE[name].kind == "chat"]
        if not chatty:
            raise ServerRefused("The server lists no model that chats: name one with --model.")
        return str(chatty[0])

    def ask(self, text: str) -> Iterator[str]:
        """The pieces of the answer as they come; question and answer join the conversation.

        Raises:
            ServerRefused: the server refused, or the stream broke.
        """
        messages = [*self._messages, {"role": "user", "content": text}]
        body = {"model": self.model, "messages": messages, "stream": True, **self._options}
        said: list[str] = []
        try:
            with self._server.http.stream("POST", "/v1/chat/completions", json=body) as response:
                if response.status_code != 200:
                    response.read()
                for piece in _pieces(self._server.checked(response)):
                    said.append(piece)
                    yield piece
        except httpx2.HTTPError as error:
            raise self._server.unreachable(error) from None
        finally:
            self._messages = [*messages, {"role": "assistant", "content": "".join(said)}]


def _pieces(response: httpx2.Response) -> Iterator[str]:
    decoder = SseDecoder()
    for data in response.iter_bytes():
        for event in decoder.feed(data):
            if event.data == b"[DONE]":
                return
            chunk = msgspec.json.decode(event.data)
            if "error" in chunk:
                raise ServerRefused(chunk["error"]["message"])
            for choice in chunk["choices"]:
                if text := choice["delta"].get("content"):
                    yield text
    raise ServerRefused("The answer ended too early.")
