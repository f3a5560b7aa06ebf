"""Forms on their way in: whatever goes wrong, no file is left, and no more is held than a piece."""

import asyncio
import errno
import hashlib
import os
from pathlib import Path

import pytest
from tests.raw_asgi import Caller, until

from narthex.core.errors import InvalidRequest, RequestTooLarge, StorageError, StorageFull, UnsupportedMediaType
from narthex.http import uploading
from narthex.http.asgi import CallerLeft
from narthex.http.exchange import Exchange
from narthex.http.uploading import UploadForm, received
from narthex.storage.uploads import Uploads

pytestmark = pytest.mark.anyio

LIMIT = 100_000_000
HEADERS = {"content-type": "multipart/form-data; boundary=XX"}


def part(name: str, content: bytes, *, filename: str | None = None, media_type: str = "") -> bytes:
    head = f'Content-Disposition: form-data; name="{name}"'
    head += "" if filename is None else f'; filename="{filename}"'
    head += f"\r\nContent-Type: {media_type}" if media_type else ""
    return b"--XX\r\n" + head.encode() + b"\r\n\r\n" + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--XX--\r\n"


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path / "uploads")


def left(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "uploads"
    return list(folder.iterdir()) if folder.exists() else []


async def read(
    uploads: Uploads, *pieces: bytes, headers: dict[str, str] = HEADERS, limit: int = LIMIT, keep: bool = True
) -> UploadForm:
    caller = Caller(*pieces, headers=headers)
    exchange = Exchange(caller.scope, caller.receive, caller.send, request_id="r")
    async with received(exchange, uploads, limit_bytes=limit) as found:
        if keep:
            found.kept.update(file.job_id for file in found.files)
        return found


async def test_files_are_on_disk_with_their_digests(uploads, tmp_path):
    large = os.urandom(3_000_000)
    body = form(
        part("description", "Grüße".encode()),
        part("file", b"Words.", filename="a.txt", media_type="text/plain"),
        part("file", large, filename="b.bin"),
    )
    pieces = [body[at : at + 65_536] for at in range(0, len(body), 65_536)]
    found = await read(uploads, *pieces)
    assert found.fields == {"description": "Grüße"}
    one, other = found.files
    assert (one.name, one.media_type, one.size) == ("a.txt", "text/plain", 6)
    assert uploads.path(one.job_id).read_bytes() == b"Words."
    assert uploads.path(other.job_id).read_bytes() == large
    assert (other.name, other.size, other.sha256) == ("b.bin", len(large), hashlib.sha256(large).hexdigest())
    assert uploads.path(one.job_id).stat().st_mode & 0o777 == 0o600


async def test_files_that_get_no_job_are_removed(uploads, tmp_path):
    await read(uploads, form(part("file", b"x", filename="a")), keep=False)
    assert left(tmp_path) == []


WRONG = {
    "no form": ([b"{}"], {"content-type": "application/json"}, UnsupportedMediaType),
    "no type": ([b""], {}, UnsupportedMediaType),
    "no boundary": ([b""], {"content-type": "multipart/form-data"}, InvalidRequest),
    "another name": ([form(part("document", b"x", filename="a"))], HEADERS, InvalidRequest),
    "a field twice": ([form(part("key", b"x"), part("key", b"y"))], HEADERS, InvalidRequest),
    "a field of other characters": ([form(part("key", b"\xff"))], HEADERS, InvalidRequest),
    "a field that is too long": (
        [form(part("file", b"x", filename="a"), part("key", b"x" * 70_000))],
        HEADERS,
        InvalidRequest,
    ),
    "an end too early": ([part("file", b"x", filename="a"), b"--XX"], HEADERS, InvalidRequest),
    "an end within a file": ([part("file", b"x", filename="a")[:-4]], HEADERS, InvalidRequest),
    "a length over the limit": ([b""], HEADERS | {"content-length": "100000001"}, RequestTooLarge),
    "a length without end": ([b""], HEADERS | {"content-length": "9" * 30}, RequestTooLarge),
    "no length": ([b""], HEADERS | {"content-length": "-1"}, InvalidRequest),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_form_that_is_wrong_leaves_nothing(uploads, tmp_path, name):
    pieces, headers, kind = WRONG[name]
    with pytest.raises(kind):
        await read(uploads, *pieces, headers=headers)
    assert left(tmp_path) == []


async def test_more_than_the_limit_is_refused_as_it_comes(uploads, tmp_path):
    with pytest.raises(RequestTooLarge):
        await read(uploads, part("file", b"x" * 500, filename="a"), b"y" * 600, limit=1000)
    assert left(tmp_path) == []


async def test_too_many_parts_are_refused(uploads, tmp_path, monkeypatch):
    monkeypatch.setattr(uploading, "MAX_PARTS", 3)
    with pytest.raises(InvalidRequest):
        await read(uploads, form(*(part("file", b"x", filename=str(number)) for number in range(4))))
    assert left(tmp_path) == []


async def test_a_caller_who_leaves_leaves_nothing(uploads, tmp_path):
    caller = Caller(part("file", b"x" * 10, filename="a"), b"never sent", headers=HEADERS)
    caller._pieces.pop()
    caller._pieces.append(b"more")
    exchange = Exchange(caller.scope, _leaving(caller), caller.send, request_id="r")
    with pytest.raises(CallerLeft):
        async with received(exchange, uploads, limit_bytes=LIMIT):
            pass
    assert left(tmp_path) == []


def _leaving(caller: Caller):
    async def receive():
        message = await caller.receive()
        if not message.get("more_body"):
            return {"type": "http.disconnect"}
        return message

    return receive


async def test_a_full_disk_is_told_and_leaves_nothing(uploads, tmp_path, monkeypatch):
    def full(_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFull):
        await read(uploads, form(part("file", b"x", filename="a")))
    assert left(tmp_path) == []


async def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "uploads").touch()
    with pytest.raises(StorageError):
        await read(Uploads(tmp_path / "uploads"), form(part("file", b"x", filename="a")))


async def test_the_end_of_a_drain_ends_an_upload(uploads, tmp_path):
    caller = Caller(part("file", b"x", filename="a"), b"never", headers=HEADERS)
    waiting = asyncio.Event()

    async def receive():
        if len(caller._pieces) > 1:
            return await caller.receive()
        waiting.set()
        return await asyncio.Event().wait()

    exchange = Exchange(caller.scope, receive, caller.send, request_id="r")

    async def run() -> None:
        async with received(exchange, uploads, limit_bytes=LIMIT):
            pass

    task = asyncio.ensure_future(run())
    await until(waiting.is_set)
    exchange.cut()
    with pytest.raises(Exception, match="shutting down"):
        await task
    assert left(tmp_path) == []
