"""A running server as commands ask it: over HTTP, with the local admin's key or another."""

from collections.abc import Mapping
from pathlib import Path
from typing import IO, Annotated, Any, Self
from urllib.parse import quote

import httpx2
import msgspec
import typer

from narthex.core.errors import ConfigError, NarthexError
from narthex.storage.adminkey import read_admin_key

DEFAULT_URL = "http://127.0.0.1:8000"
Url = Annotated[str, typer.Option(help="Where the server is.")]
KeyFile = Annotated[Path | None, typer.Option(help="A file with an API key.  \\[default: <data>/admin.key]")]

TIMEOUT = httpx2.Timeout(600, connect=5)


class ServerRefused(NarthexError):
    """The server answered with an error, or not at all."""

    def __init__(self, message: str, *, answered: int = 0) -> None:
        """`answered`: the status of its answer; 0: there was none."""
        super().__init__(message)
        self.answered = answered


def api_key(data: Path, key_file: Path | None) -> str:
    """The key to ask with: that of a file, or the local admin's.

    Raises:
        ConfigError: there is none.
    """
    if key_file is not None:
        return key_file.read_text(encoding="utf-8").strip()
    if (secret := read_admin_key(data)) is None:
        raise ConfigError(f"There is no admin.key in {data}: give --data or --key-file.")
    return secret.reveal()


def path(*segments: str) -> str:
    """A path below `/api`; each segment as it is meant."""
    return "/".join(("/api", *(quote(segment, safe="") for segment in segments)))


class Server:
    """A connection to a running server. Close it, or use it as a context manager."""

    def __init__(self, url: str, key: str) -> None:
        headers = {"authorization": f"Bearer {key}"}
        self.http = httpx2.Client(base_url=url, headers=headers, timeout=TIMEOUT, trust_env=False)
        self._url = url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def ask(self, method: str, path: str, *, body: Any = None, query: Mapping[str, Any] | None = None) -> Any:
        """The decoded answer; None where it is empty.

        Raises:
            ServerRefused: its answer is an error, or there is none.
        """
        try:
            response = self.http.request(method, path, json=body, params=query)
        except httpx2.HTTPError as error:
            raise self.unreachable(error) from None
        content = self.checked(response).content
        return msgspec.json.decode(content) if content else None

    def fetch(self, path: str, into: IO[bytes]) -> int:
        """Write an answer's body into a file as it comes; how many bytes it had.

        Raises:
            ServerRefused: its answer is an error, there is none, or it broke off.
        """
        size = 0
        try:
            with self.http.stream("GET", path) as response:
                if response.status_code >= 300:
                    response.read()
                for piece in self.checked(response).iter_bytes():
                    into.write(piece)
                    size += len(piece)
        except httpx2.HTTPError as error:
            raise self.unreachable(error) from None
        return size

    def send_form(self, path: str, fields: Mapping[str, str], *, file: tuple[str, IO[bytes], str]) -> Any:
        """The decoded answer to a form with one file in it: its name, its content and its media type.

        Raises:
            ServerRefused: its answer is an error, or there is none.
        """
        try:
            response = self.http.post(path, data=dict(fields), files={"file": file})
        except httpx2.HTTPError as error:
            raise self.unreachable(error) from None
        return msgspec.json.decode(self.checked(response).content)

    def unreachable(self, error: httpx2.HTTPError) -> ServerRefused:
        """What to tell of a request that got no answer."""
        return ServerRefused(f"{self._url} can't be reached ({type(error).__name__}). Is `narthex serve` running?")

    @staticmethod
    def checked(response: httpx2.Response) -> httpx2.Response:
        """The response itself, read whole.

        Raises:
            ServerRefused: it is an error.
        """
        if response.status_code < 300:
            return response
        message = f"The server answered with status {response.status_code}."
        try:
            error = msgspec.json.decode(response.content)["error"]
            message = error if isinstance(error, str) else error["message"]
        except (msgspec.DecodeError, LookupError, TypeError):
            pass
        raise ServerRefused(message, answered=response.status_code)
