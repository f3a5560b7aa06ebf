"""Images that are kept, and answers that tell where."""

import asyncio
import errno
import json
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.images import JPEG, PNG, WEBP, b64
from tests.raw_asgi import Caller
from tests.scripted_deployment import principal

from narthex.core.errors import NotFound, StorageError, StorageFull
from narthex.core.ports import Call, Stream
from narthex.core.stream import Frame, ImageReady, Usage, UsageReported
from narthex.dialects.openai_images import ImagesDialect
from narthex.http.exchange import Exchange
from narthex.http.images import ImageFiles, KeptImages
from narthex.http.surface import ModelSurface

pytestmark = pytest.mark.anyio

HOUR_S = 3600.0
NAME = "A" * 32


class Clock:
    now_s = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def files(tmp_path: Path, clock: Clock) -> ImageFiles:
    made = ImageFiles(tmp_path / "images", clock=clock, max_bytes=1000)
    assert made.sweep() == 0
    return made


# --- the folder ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "media", "ending"),
    [
        (PNG, "image/png", "png"),
        (JPEG, "image/jpeg", "jpg"),
        (WEBP, "image/webp", "webp"),
        (b"<svg onload='alert(1)'/>", "application/octet-stream", "bin"),
    ],
)
def test_an_image_is_kept_under_a_name_of_its_own(
    data: bytes, media: str, ending: str, files: ImageFiles, tmp_path: Path
) -> None:
    names = {files.write(data) for _ in range(20)}
    assert len(names) == 20
    for name in names:
        assert len(name) == 32 + 1 + len(ending)
        assert name.endswith(f".{ending}")
        assert files.read(name) == (data, media, HOUR_S)
        assert stat.S_IMODE((tmp_path / "images" / name).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "images").stat().st_mode) == 0o700


def test_an_image_is_gone_after_an_hour(files: ImageFiles, clock: Clock, tmp_path: Path) -> None:
    old = files.write(PNG)
    clock.now_s += 1
    young = files.write(PNG)
    clock.now_s += HOUR_S - 1.5
    assert files.read(old)[2] == 0.5
    assert files.sweep() == 2 * len(PNG)
    clock.now_s += 0.5
    with pytest.raises(NotFound, match="not any more"):
        files.read(old)
    assert files.read(young)[0] == PNG
    assert files.sweep() == len(PNG)
    assert [each.name for each in (tmp_path / "images").iterdir()] == [young]
    with pytest.raises(NotFound, match="not any more"):
        files.read(old)


def test_what_was_kept_before_we_started_is_still_there(files: ImageFiles, clock: Clock, tmp_path: Path) -> None:
    name = files.write(PNG)
    again = ImageFiles(tmp_path / "images", clock=clock)
    assert again.sweep() == len(PNG)
    assert again.read(name)[0] == PNG


def test_what_is_not_ours_is_left_alone(files: ImageFiles, clock: Clock, tmp_path: Path) -> None:
    (tmp_path / "images" / "lost+found").mkdir()
    (tmp_path / "images" / "note.txt").write_text("mine")
    files.write(PNG)
    clock.now_s += 1e9
    assert files.sweep() == 0
    assert sorted(each.name for each in (tmp_path / "images").iterdir()) == ["lost+found", "note.txt"]


def test_no_call_is_taken_where_there_is_no_room(files: ImageFiles, clock: Clock) -> None:
    files.write(bytes(999))
    files.make_room()
    files.write(bytes(1))
    with pytest.raises(StorageFull, match="b64_json"):
        files.make_room()
    clock.now_s += HOUR_S
    files.make_room()


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../secret.png",
        "..%2Fsecret.png",
        f"../{NAME}.png",
        f"x/../{NAME}.png",
        f"./{NAME}.png",
        f"/{NAME}.png",
        f"{NAME}.png/",
        f"{NAME}.png\n",
        f"{NAME}.png\0",
        f"{NAME}.PNG",
        f"{NAME}.svg",
        f"{NAME}",
        f"{NAME}A.png",
        f"{NAME[1:]}.png",
        f"{NAME[1:]}é.png",
        f"{NAME[1:]}..png",
        f"{NAME}.png.bin",
        f"{NAME}.png",
    ],
)
def test_no_other_name_leads_anywhere(name: str, files: ImageFiles, tmp_path: Path) -> None:
    for place in (tmp_path / "secret.png", tmp_path / f"{NAME}.png", tmp_path / "images" / f"{NAME}.svg"):
        place.write_bytes(PNG)
    with pytest.raises(NotFound):
        files.read(name)


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, StorageFull), (errno.EDQUOT, StorageFull), (errno.EIO, StorageError)],
)
def test_an_image_that_can_not_be_written_leaves_nothing(
    number: int, kind: type[StorageError], files: ImageFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "utime", fails)
    with pytest.raises(StorageError) as raised:
        files.write(PNG)
    assert type(raised.value) is kind
    assert list((tmp_path / "images").iterdir()) == []


def test_a_folder_that_is_a_file_is_said_so(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "images").write_text("in the way")
    with pytest.raises(StorageError):
        ImageFiles(tmp_path / "images", clock=clock).sweep()


def test_two_workers_may_sweep_at_once(
    files: ImageFiles, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [files.write(PNG), files.write(PNG)]
    clock.now_s += HOUR_S
    unlink = Path.unlink

    def slower(path: Path) -> None:
        unlink(path)
        unlink(path)  # the other worker was first

    monkeypatch.setattr(Path, "unlink", slower)
    assert files.sweep() == 0
    assert not any((tmp_path / "images" / name).exists() for name in names)


# --- the endpoints ---------------------------------------------------------------------------------------------------


async def served(files: ImageFiles, name: str) -> Caller:
    caller = Caller(method="GET", path=f"/v1/images/files/{name}")
    exchange = Exchange(caller.scope, caller.receive, caller.send, request_id="req_abc")
    exchange.parameters = {"name": name}
    await files.endpoint(exchange)
    return caller


async def test_an_image_is_served(files: ImageFiles, clock: Clock) -> None:
    name = files.write(WEBP)
    clock.now_s += 0.5
    caller = await served(files, name)
    assert (caller.status, caller.body) == (200, WEBP)
    told = {key: value for key, value in caller.headers.items() if not key.startswith(("openai-", "x-request"))}
    assert told == {
        "content-type": "image/webp",
        "content-length": str(len(WEBP)),
        "x-content-type-options": "nosniff",
        "cache-control": "private, max-age=3599",
    }
    with pytest.raises(NotFound):
        await served(files, "A" * 32 + ".png")


class Making:
    """A handler that makes images, and what was asked of it."""

    def __init__(self, *images: bytes) -> None:
        self._images = images
        self.asked = 0
        self.left = False

    @asynccontextmanager
    async def open(self, call: Call) -> AsyncIterator[Stream]:
        self.asked += 1
        call.deployment = "there/pictures"
        try:
            yield self._frames()
        finally:
            self.left = True

    async def _frames(self) -> AsyncIterator[Frame]:
        for image in self._images:
            yield Frame.of(ImageReady(b64=b64(image), revised_prompt="A black cat"))
        yield Frame.of(UsageReported(Usage(prompt_tokens=1)))


async def asked(
    files: ImageFiles, making: Making, *, host: str | None = "here.example:8080", scope: dict | None = None, **fields
) -> Caller:
    body = json.dumps({"model": "m", "prompt": "A cat", **fields}).encode()
    caller = Caller(body, headers={} if host is None else {"host": host})
    caller.scope |= scope or {}
    exchange = Exchange(caller.scope, caller.receive, caller.send, request_id="req_abc")
    exchange.principal = principal()

    def surface(handler):
        return ModelSurface(ImagesDialect(), handler, clock=lambda: 7.0, body_limit_bytes=10_000, lenient=False)

    await KeptImages(files, handler=making.open, surface=surface)(exchange)
    return caller


async def test_addresses_lead_to_what_was_made(files: ImageFiles) -> None:
    making = Making(PNG, JPEG)
    answer = (await asked(files, making, n=2)).json()
    prefix = "http://here.example:8080/v1/images/files/"
    assert [sorted(image) for image in answer["data"]] == [["revised_prompt", "url"]] * 2
    assert all(image["url"].startswith(prefix) for image in answer["data"])
    names = [image["url"].removeprefix(prefix) for image in answer["data"]]
    assert [files.read(name)[0] for name in names] == [PNG, JPEG]
    assert answer["usage"]["input_tokens"] == 1
    assert making.left


@pytest.mark.parametrize(
    ("host", "scope", "origin"),
    [
        ("narthex.example", {"scheme": "https"}, "https://narthex.example/"),
        ("[::1]:8080", {}, "http://[::1]:8080/"),
        (None, {"server": ("127.0.0.1", 8000)}, "http://127.0.0.1:8000/"),
        ("", {"server": ("/run/n.sock", None)}, "http://localhost/"),
        ("", {}, "http://localhost/"),
        ("evil.example/?x=<script>", {"server": ("127.0.0.1", 8000)}, "http://127.0.0.1:8000/"),
        ("user@evil.example", {"server": None}, "http://localhost/"),
        ("a\nb", {}, "http://localhost/"),
    ],
)
async def test_addresses_begin_as_the_caller_came(
    host: str | None, scope: dict, origin: str, files: ImageFiles
) -> None:
    answer = (await asked(files, Making(PNG), host=host, scope=scope)).json()
    assert answer["data"][0]["url"].startswith(f"{origin}v1/images/files/")


async def test_images_themselves_are_not_kept(files: ImageFiles, tmp_path: Path) -> None:
    answer = (await asked(files, Making(PNG), response_format="b64_json")).json()
    assert answer["data"] == [{"b64_json": b64(PNG), "revised_prompt": "A black cat"}]
    caller = await asked(files, Making(PNG), stream=True)
    assert b64(PNG) in caller.body.decode()
    assert list((tmp_path / "images").iterdir()) == []


async def test_nothing_is_made_where_there_is_no_room(files: ImageFiles) -> None:
    files.write(bytes(1000))
    making = Making(PNG)
    with pytest.raises(StorageFull):
        await asked(files, making)
    assert making.asked == 0


async def test_what_fails_while_it_is_kept_closes_the_call(files: ImageFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: bytes) -> str:
        raise StorageError

    monkeypatch.setattr(files, "write", fails)
    making = Making(PNG)
    with pytest.raises(StorageError):
        await asked(files, making)
    assert making.left


async def test_many_at_once_keep_their_own(files: ImageFiles) -> None:
    images = [PNG + bytes([number]) for number in range(10)]
    answers = await asyncio.gather(*(asked(files, Making(image)) for image in images))
    names = [answer.json()["data"][0]["url"].rpartition("/")[2] for answer in answers]
    assert [files.read(name)[0] for name in names] == images
