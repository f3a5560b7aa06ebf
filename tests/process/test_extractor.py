"""The extractor as a process: ordinary files, files that mean harm, and what they cost."""

import asyncio
import os
import signal
import sysconfig
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.extracted_files import covered, sample
from tests.extractor_process import ExtractorProcess
from tests.files_made import WORD, docx, paragraph, pdf, pdf_of

from narthex.core.documents import Chunking
from narthex.core.errors import EngineUnavailable, InvalidRequest, NarthexError, UnsupportedMediaType
from narthex.ipc.client import Client
from narthex.retrieval.chunking.cut import cut
from narthex.retrieval.extract import client as asking
from narthex.retrieval.extract.client import Extractor
from narthex.retrieval.extract.protocol import Extraction

pytestmark = [pytest.mark.anyio, pytest.mark.patient]

STRUCTURE = Chunking(mode="structure", size=200)
PROMISED_BYTES = 300 * 1024 * 1024
DEEP = b"<html>" + b"<div>" * 200_000
"""The parser looks through all open elements at each new one."""


HURRIED = pytest.mark.parametrize("process", [1.0], indirect=True, ids=["one second"])


@pytest.fixture
async def process(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[ExtractorProcess]:
    made = ExtractorProcess(tmp_path, time_limit_s=getattr(request, "param", 60.0))
    yield made
    made.aclose()


@pytest.fixture
async def extractor(process: ExtractorProcess) -> AsyncIterator[Extractor]:
    made = Extractor(process.socket, ensure=process.ensure)
    yield made
    await made.aclose()


async def text_of(extractor: Extractor, source: Path | bytes, name: str = "file") -> str:
    return (await extractor.extract(source, name=name, media_type=None, chunking=STRUCTURE)).text


def files_of(process: ExtractorProcess) -> set[str]:
    return {path.name for path in process.socket.parent.iterdir()} - {"file", "large"}


async def test_it_is_started_with_the_first_file_and_takes_paths_and_bytes(
    process: ExtractorProcess, extractor: Extractor, tmp_path: Path
) -> None:
    assert process.processes == []
    data = pdf(
        [["One sentence. " * 5, "Another."], ["Page two.", "It has a sentence of its own."]],
        title="T",
        outline=[("Page two.", 1)],
    )
    it = await extractor.extract(data, name="a.pdf", media_type=None, chunking=Chunking(mode="structure", size=60))
    assert (it.media_type, it.title, it.warnings) == ("application/pdf", "T", ())
    assert all(it.text[chunk.start : chunk.stop] == chunk.text for chunk in it.chunks)
    assert [(chunk.page, chunk.context) for chunk in it.chunks][-1] == (2, "Page two.")
    assert it.chunks[0].page == 1
    file = tmp_path / "file"
    file.write_bytes(data)
    assert (await extractor.extract(file, name="", media_type=None, chunking=STRUCTURE)).text == it.text
    assert len(process.processes) == 1
    assert files_of(process) == {"extractor.sock", "extractor.job", "log"}
    assert process.resident_bytes() < PROMISED_BYTES


async def test_errors_arrive_as_they_are(process: ExtractorProcess, extractor: Extractor, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedMediaType, match="Taken are: PDF"):
        await text_of(extractor, b"\x7fELF" + bytes(50))
    with pytest.raises(InvalidRequest, match="is empty"):
        await text_of(extractor, b"")
    with pytest.raises(InvalidRequest, match=r"can't be read: No such file"):
        await text_of(extractor, tmp_path / "absent")
    assert len(process.processes) == 1


async def test_complaint_29_many_at_once_wait_for_each_other(process: ExtractorProcess, extractor: Extractor) -> None:
    texts = await asyncio.gather(*(text_of(extractor, f"text {number}".encode()) for number in range(40)))
    assert texts == [f"text {number}" for number in range(40)]


@HURRIED
async def test_complaint_27_a_file_without_end_ends_at_its_limit(
    process: ExtractorProcess, extractor: Extractor
) -> None:
    many = (
        pdf([["word"]] * 3).replace(b"/Kids [", b"/Kids [" + b"5 0 R " * 100_000).replace(b"/Count 3", b"/Count 100003")
    )
    began = time.monotonic()
    with pytest.raises(InvalidRequest, match=r"took longer than 1 s|ended the extractor"):
        await text_of(extractor, many)
    assert time.monotonic() - began < 30
    assert await text_of(extractor, b"next") == "next"


@HURRIED
async def test_complaint_28_a_file_that_ends_the_extractor_costs_itself_only_and_says_so(
    process: ExtractorProcess, extractor: Extractor
) -> None:
    assert await text_of(extractor, b"before") == "before"
    results = await asyncio.gather(
        text_of(extractor, DEEP, "a.html"), text_of(extractor, b"beside"), return_exceptions=True
    )
    assert isinstance(results[0], InvalidRequest)
    assert "ended the extractor" in results[0].message
    assert results[1] == "beside"
    assert len(process.processes) == 2  # and the file that ended the first was not tried on the second
    assert files_of(process) == {"extractor.sock", "extractor.job", "log"}


def _billion_laughs() -> bytes:
    entities = '<!ENTITY a "ha">' + "".join(
        f'<!ENTITY {name} "{f"&{before};" * 10}">' for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
    return docx("", document=f'<!DOCTYPE w [{entities}]><w:document xmlns:w="{WORD}">{paragraph("&i;")}</w:document>')


def _large_operations() -> bytes:
    return pdf_of([b"BT /F1 9 Tf " + b"(a) Tj " * 1_000_000 + b"ET"])


@HURRIED
@pytest.mark.parametrize(
    "make",
    [
        lambda: docx(paragraph("a" * 60_000_000)),
        lambda: docx(" " * 100_000_000),
        lambda: docx("<w:p>" * 1_000_000),
        _billion_laughs,
        _large_operations,
        lambda: b"<p>" + b"a" * 40_000_000,
        lambda: b"[" * 30_000_000,
        lambda: b"x = " + b"(" * 1_900_000,
        lambda: b"x" * 100_000_000,
    ],
    ids=["text bomb", "blank bomb", "deep XML", "laughs", "objects", "long HTML", "brackets", "nested code", "long"],
)
async def test_files_that_mean_harm_are_refused_or_read_within_the_limits(
    make: Any, process: ExtractorProcess, extractor: Extractor
) -> None:
    data = make()
    name = "a.py" if data.startswith(b"x = ") else "a.json" if data.startswith(b"[") else "a"
    began = time.monotonic()
    (result,) = await asyncio.gather(text_of(extractor, data, name), return_exceptions=True)
    assert isinstance(result, str | InvalidRequest)
    assert time.monotonic() - began < 60
    assert await text_of(extractor, b"next") == "next"


async def test_memory_is_limited_as_a_whole(tmp_path: Path) -> None:
    process = ExtractorProcess(tmp_path, memory_limit_bytes=400 * 1024 * 1024, max_characters=10**9)
    extractor = Extractor(process.socket, ensure=process.ensure)
    with pytest.raises(InvalidRequest, match=r"took too much memory|ended the extractor"):
        await text_of(extractor, b"a b " * 60_000_000)
    assert await text_of(extractor, b"next") == "next"
    await extractor.aclose()
    process.aclose()


@HURRIED
async def test_nothing_of_a_file_comes_into_the_log(process: ExtractorProcess, extractor: Extractor) -> None:
    for data, name in (
        (b"SECRET" * 99, "a"),
        (b"%PDF-1.7 SECRET", "b"),
        (b"PK\x03\x04SECRET", "c"),
        (b"SECRET" + DEEP, "d.html"),
    ):
        (result,) = await asyncio.gather(text_of(extractor, data, name), return_exceptions=True)
        assert isinstance(result, str) or "SECRET" not in str(result)
    assert "SECRET" not in process.log.read_text()


async def test_a_killed_extractor_is_started_again(process: ExtractorProcess, extractor: Extractor) -> None:
    await text_of(extractor, b"a")
    process.processes[-1].send_signal(signal.SIGKILL)
    process.ended()
    assert await text_of(extractor, b"again") == "again"
    assert len(process.processes) == 2


async def test_it_ends_by_itself_when_nobody_asks_and_comes_back(tmp_path: Path) -> None:
    process = ExtractorProcess(tmp_path, idle_s=0.2)
    extractor = Extractor(process.socket, ensure=process.ensure)
    assert await text_of(extractor, b"a") == "a"
    assert process.ended() == 0
    assert not process.socket.exists()
    assert await text_of(extractor, b"b") == "b"
    assert len(process.processes) == 2
    await extractor.aclose()
    process.aclose()


async def test_it_ends_when_told_to(process: ExtractorProcess, extractor: Extractor) -> None:
    await text_of(extractor, b"a")
    process.processes[-1].send_signal(signal.SIGTERM)
    assert process.ended() == 0


async def test_one_that_can_not_be_started_is_told(tmp_path: Path) -> None:
    async def ensure(_: str) -> None:
        """Says that it is ready and isn't."""

    extractor = Extractor(tmp_path / "extractor.sock", ensure=ensure)
    with pytest.raises(EngineUnavailable, match="is not running"):
        await text_of(extractor, b"a")
    await extractor.aclose()


async def test_progress_is_told(extractor: Extractor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_LOOK_EVERY_S", 0.01)
    told: list[tuple[int, int]] = []
    data = pdf([[f"Line {line} of the page" for line in range(40)]] * 800)
    it = await extractor.extract(
        data, name="", media_type=None, chunking=STRUCTURE, progress=lambda *at: told.append(at)
    )
    assert len(it.text) > 400_000
    assert told == sorted(told)
    assert all(0 < done <= total == 800 for done, total in told)


@HURRIED
async def test_giving_up_leaves_nothing(process: ExtractorProcess, extractor: Extractor) -> None:
    await text_of(extractor, b"a")
    waiting = asyncio.ensure_future(text_of(extractor, DEEP, "a.html"))
    async with asyncio.timeout(60):
        while len(files_of(process)) < 5:
            await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert files_of(process) == {"extractor.sock", "extractor.job", "log"}


async def test_what_killed_askers_left_behind_goes(
    process: ExtractorProcess, extractor: Extractor, tmp_path: Path
) -> None:
    old, new = tmp_path / "extract-old", tmp_path / "extract-new"
    for path in (old, new):
        path.touch()
    os.utime(old, (0, 0))
    await text_of(extractor, b"a")
    assert not old.exists()
    assert new.exists()


async def test_what_nobody_waits_for_is_not_kept(
    process: ExtractorProcess, extractor: Extractor, tmp_path: Path
) -> None:
    await text_of(extractor, b"a")
    (tmp_path / "file").write_bytes(b"a")
    client = Client(process.socket, name="extractor")
    ask = {"job": "0", "path": str(tmp_path / "file"), "into": str(tmp_path / "gone"), "name": "", "media_type": None}
    with pytest.raises(InvalidRequest, match="Nobody waits"):
        await client.call("extract", ask | {"chunking": {"size": 5}}, type(None))
    with pytest.raises(NarthexError):
        await client.call("extract", {"nonsense": 1}, type(None))
    await client.aclose()
    assert await text_of(extractor, b"next") == "next"


# --- texts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "kind", "mode", "started"),
    [
        (1000, "text", "structure", 0),
        (1_000_000, "markdown", "structure", 0),
        (3_000_000, "text", "windows", 0),
        (3_000_000, "text", "structure", 1),
        (1000, "python", "structure", 1),
        (1000, "python", "windows", 0),
    ],
)
async def test_texts_are_cut_where_they_hold_nobody_up(
    length: int, kind: Any, mode: Any, started: int, process: ExtractorProcess, extractor: Extractor
) -> None:
    text = ("# Title\n\nWords \udc80 \U0001f600.\n\n" * (length // 20))[:length]
    chunking = Chunking(mode=mode, size=500)
    assert await extractor.chunk(text, chunking, kind) == cut(text, chunking, kind=kind)
    assert len(process.processes) == started


async def test_the_loop_goes_on_meanwhile(extractor: Extractor) -> None:
    """It turns while a long text is cut: no figure, only that it does."""
    turns = 0
    work = asyncio.ensure_future(extractor.chunk("Some words. " * 400_000, STRUCTURE))
    while not work.done():
        turns += 1
        await asyncio.sleep(0.001)
    assert len(await work) > 1_000
    assert turns > 20


async def test_one_that_a_file_has_left_large_is_replaced(process: ExtractorProcess, extractor: Extractor) -> None:
    rows = b"<p>hello <b>world</b></p>\n" * 500_000
    assert (await text_of(extractor, rows, "a.html")).count("hello world") == 500_000
    assert process.ended() == 0
    assert await text_of(extractor, b"next") == "next"
    assert len(process.processes) == 2


async def test_files_of_this_machine(process: ExtractorProcess, extractor: Extractor) -> None:
    """See tests/soak/test_extraction.py for many more."""
    files = sample(Path(sysconfig.get_path("stdlib")), 60) + sample(Path("/usr/share/doc"), 60)
    read = 0
    for file in files:
        (result,) = await asyncio.gather(
            extractor.extract(file, name=file.name, media_type=None, chunking=STRUCTURE), return_exceptions=True
        )
        assert isinstance(result, Extraction | InvalidRequest | UnsupportedMediaType), file
        if isinstance(result, Extraction):
            covered(result, size=200)
            read += 1
    assert read > 30
    assert len(process.processes) == 1


async def test_complaint_8_eight_megabytes_of_rows_are_all_there(extractor: Extractor) -> None:
    header = "number,name,town"
    data = header + "\n" + "".join(f"{row},person {row},town of {row % 100}\n" for row in range(260_000))
    assert len(data) > 8_000_000
    it = await extractor.extract(data.encode(), name="people.csv", media_type="text/csv", chunking=STRUCTURE)
    assert it.media_type == "text/csv"
    assert all(chunk.context == header for chunk in it.chunks[1:])
    assert sum(chunk.text.count("\n") + 1 for chunk in it.chunks) == 260_001
