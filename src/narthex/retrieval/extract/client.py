"""Asks the extractor; starts it when it isn't there."""

import asyncio
import contextlib
import os
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import msgspec

from narthex.core.documents import Chunk, Chunking
from narthex.core.errors import EngineCrashed, EngineUnavailable, InvalidRequest
from narthex.core.ports import Ensure
from narthex.ipc.client import Client
from narthex.ipc.tasks import TaskSet
from narthex.retrieval.chunking.cut import cut
from narthex.retrieval.chunking.layout import Kind
from narthex.retrieval.extract.protocol import NAME, SCRATCH, Cut, Extract, Extraction, Packed, job_file, unpacked

Progress = Callable[[int, int], None]
"""Is told (pages done, pages in all), now and then; called on the loop."""

TIMEOUT_S = 900.0
"""For one file and those of other callers before it; a file itself has a tighter limit over there."""
_PAUSES_S = (0.0, 0.02, 0.2, 1.0)
"""Before the process is asked for again. We may see that one has ended before the supervisor does."""
_LOOK_EVERY_S = 0.25
AT_ONCE_CHARS = 32 * 1024
"""A text up to this length is cut where the caller stands, in about a millisecond."""
IN_THREAD_CHARS = 2 * 1024 * 1024
"""One up to this length, or into windows, in a thread of the caller's process: it never waits for files."""


class Extractor:
    """What files and long texts are given to. Safe for any number of tasks of one loop; one file at a time goes over.

    Close it with `aclose`.
    """

    def __init__(self, socket: Path, *, ensure: Ensure) -> None:
        self._client = Client(socket, name=NAME)
        self._folder = socket.parent
        self._note = job_file(socket)
        self._ensure = ensure
        self._turn = asyncio.Lock()

    async def extract(
        self,
        source: Path | bytes,
        *,
        name: str,
        media_type: str | None,
        chunking: Chunking,
        progress: Progress | None = None,
    ) -> Extraction:
        """Text and chunks of a file. Its content tells what it is; `name` and `media_type` are only hints.

        Raises:
            UnsupportedMediaType: nothing here reads such files.
            InvalidRequest: it is damaged, protected or empty, has no text, takes too long or too much memory, or ended
                the extractor. Trying it again would end the same way.
            EngineUnavailable: the extractor can't be started, or something else ended it; a later try may pass.
        """
        async with self._turn, self._file(source) as path, self._file(b"") as into:
            job = uuid.uuid4().hex
            ask = Extract(
                job=job,
                path=str(path.absolute()),
                into=str(into),
                name=name,
                media_type=media_type,
                chunking=chunking,
            )
            with self._watched(job, progress):
                await self._asked("extract", ask)
            return await asyncio.to_thread(_read, into)

    async def chunk(self, text: str, chunking: Chunking, kind: Kind = "text") -> list[Chunk]:
        """The chunks of a text that is there already, without holding the loop up.

        Raises:
            InvalidRequest: there would be too many. For texts of more than 2 Mi characters and programs in Python: as
                `extract`.
            EngineUnavailable: as `extract`, for these.
        """
        parsed = kind == "python" and chunking.mode == "structure"  # by a parser, which is no match for some texts
        if len(text) <= AT_ONCE_CHARS and not parsed:
            return cut(text, chunking, kind=kind)
        if (len(text) <= IN_THREAD_CHARS and not parsed) or chunking.mode == "windows":
            return await asyncio.to_thread(cut, text, chunking, kind=kind)
        data = await asyncio.to_thread(text.encode, "utf-8", "surrogatepass")
        async with self._turn, self._file(data) as path, self._file(b"") as into:
            ask = Cut(job=uuid.uuid4().hex, path=str(path), into=str(into), chunking=chunking, kind=kind)
            await self._asked("cut", ask)
            return list((await asyncio.to_thread(_read, into, text)).chunks)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._client.aclose()

    async def _asked(self, operation: str, ask: Extract | Cut) -> None:
        """Have it done. A file under which the process ends is not tried again; one that did not begin is."""
        for pause_s in (*_PAUSES_S, None):
            began = time.monotonic()
            try:
                await self._client.call(operation, ask, type(None), timeout_s=TIMEOUT_S)
                return
            except EngineCrashed:
                if await asyncio.to_thread(self._begun) == ask.job:
                    message = "This file ended the extractor: it is damaged, or takes too long or too much memory."
                    raise InvalidRequest(message, param="file") from None
            except EngineUnavailable:
                if pause_s is None or time.monotonic() - began >= TIMEOUT_S:
                    raise
            if pause_s is not None:
                await asyncio.sleep(pause_s)
                await self._ensure(NAME)
        raise EngineUnavailable("The extractor ended while it had other work.", retry_after_s=1)

    def _begun(self) -> str:
        """The last job that the extractor began."""
        return self._noted()[0]

    def _noted(self) -> tuple[str, int, int]:
        try:
            job, done, total = self._note.read_text().split()
            return job, int(done), int(total)
        except (OSError, ValueError):  # it is being written
            return "", 0, 0

    @contextlib.contextmanager
    def _watched(self, job: str, progress: Progress | None) -> Iterator[None]:
        if progress is None:
            yield
            return

        async def watch() -> None:
            told = 0
            while True:
                await asyncio.sleep(_LOOK_EVERY_S)
                noted, done, total = self._noted()
                if noted == job and done > told:
                    told = done
                    progress(done, total)

        tasks = TaskSet()
        tasks.start(watch())
        try:
            yield
        finally:
            tasks.cancel()

    @contextlib.asynccontextmanager
    async def _file(self, source: Path | bytes) -> AsyncIterator[Path]:
        """The file itself, or one with these bytes, which is gone afterwards."""
        if isinstance(source, Path):
            yield source
            return
        path = await asyncio.to_thread(_written, self._folder, source)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)


def _written(folder: Path, data: bytes) -> Path:
    fd, name = tempfile.mkstemp(prefix=SCRATCH, dir=folder)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
    return Path(name)


def _read(path: Path, text: str | None = None) -> Extraction:
    """The answer; `text`: what was cut, which is not in it."""
    answer = msgspec.msgpack.decode(path.read_bytes(), type=Packed)
    return unpacked(answer if text is None else msgspec.structs.replace(answer, text=text))
