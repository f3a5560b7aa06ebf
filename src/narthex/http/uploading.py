"""Forms with files in them, read into files of the data folder as they come: none is ever held in memory whole."""

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import IO

import msgspec

from narthex.core.errors import InvalidRequest, RequestTooLarge, UnsupportedMediaType
from narthex.http.asgi import CallerLeft, header
from narthex.http.exchange import Exchange
from narthex.storage.uploads import Uploads, translated
from narthex.wire.multipart import Content, Event, MultipartDecoder, Part, boundary_of

MAX_FIELD_BYTES = 64 * 1024
MAX_PARTS = 1000
_AT_ONCE_BYTES = 1024 * 1024
"""Written and hashed in one go, in a thread."""


class UploadedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a form, durable by now under `job_id`. `sha256`: hex."""

    job_id: str
    name: str
    media_type: str
    size: int
    sha256: str


class UploadForm(msgspec.Struct, frozen=True, kw_only=True):
    """What a form held: its plain fields, and its files in their order."""

    fields: dict[str, str]
    files: tuple[UploadedFile, ...]
    kept: set[str]
    """The ids of those that have their job: from then on they are the job's."""


@asynccontextmanager
async def received(exchange: Exchange, uploads: Uploads, *, limit_bytes: int) -> AsyncIterator[UploadForm]:
    """The form of a request. Files that the block leaves without a job (see `UploadForm.kept`) are removed.

    Raises:
        UnsupportedMediaType: it is no form.
        InvalidRequest: it is malformed.
        RequestTooLarge: it is longer than the limit.
        StorageError: a file can't be written; StorageFull where the disk is full.
        CallerLeft, Draining: it ended too early.
    """
    form = _Form(uploads)
    try:
        async with exchange.until_cut():
            await _read(exchange, form, limit_bytes=limit_bytes)
        yield form.whole()
    finally:
        await asyncio.to_thread(form.discard)


async def _read(exchange: Exchange, form: "_Form", *, limit_bytes: int) -> None:
    media = header(exchange.headers, b"content-type")
    if media is None or not media.lower().startswith(b"multipart/"):
        raise UnsupportedMediaType("Send files as `multipart/form-data`.")
    decoder = MultipartDecoder(boundary_of(media))
    length = header(exchange.headers, b"content-length") or b"0"
    too_large = RequestTooLarge(f"The upload is larger than {limit_bytes} bytes.")
    if not length.isdigit():
        raise InvalidRequest("The Content-Length header is not a number.")
    if len(length) > 18 or int(length) > limit_bytes:
        raise too_large
    size = 0
    while True:
        message = await exchange.receive()
        if message["type"] == "http.disconnect":
            raise CallerLeft
        piece = message.get("body", b"")
        size += len(piece)
        if size > limit_bytes:
            raise too_large
        for event in decoder.feed(piece):
            await form.take(event)
        if not message.get("more_body"):
            decoder.end()
            return


class _Form:
    """What has come so far."""

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads
        self._fields: dict[str, str] = {}
        self._files: list[UploadedFile] = []
        self._parts = 0
        self._part = Part(name="")
        self._held = bytearray()
        self._writing: _File | None = None
        self._kept: set[str] = set()

    def whole(self) -> UploadForm:
        return UploadForm(fields=self._fields, files=tuple(self._files), kept=self._kept)

    def discard(self) -> None:
        """Remove every file that is not kept. Blocks."""
        if self._writing is not None:
            self._writing.file.close()
            self._uploads.remove(self._writing.job_id)
        for file in self._files:
            if file.job_id not in self._kept:
                self._uploads.remove(file.job_id)

    async def take(self, event: Event) -> None:
        """The next event of the body."""
        if isinstance(event, Part):
            self._parts += 1
            if self._parts > MAX_PARTS:
                raise InvalidRequest(f"A form may have {MAX_PARTS} parts.")
            self._part = event
            if event.filename is not None:
                self._writing = await asyncio.to_thread(_File, self._uploads)
        elif isinstance(event, Content):
            self._held += event.data
            if self._writing is None and len(self._held) > MAX_FIELD_BYTES:
                raise InvalidRequest(f"The field '{self._part.name[:100]}' is too long.")
            if len(self._held) >= _AT_ONCE_BYTES:
                await self._flush()
        elif self._writing is not None:
            await self._flush()
            await self._end_file(self._writing)
        else:
            self._end_field()

    async def _flush(self) -> None:
        held, self._held = self._held, bytearray()
        if self._writing is not None:
            await asyncio.to_thread(self._writing.write, bytes(held))

    async def _end_file(self, file: "_File") -> None:
        if self._part.name != "file":
            raise InvalidRequest(f"Files are sent as `file`, not as '{self._part.name[:100]}'.", param="file")
        await asyncio.to_thread(file.end)
        self._writing = None
        self._files.append(
            UploadedFile(
                job_id=file.job_id,
                name=self._part.filename or "",
                media_type=self._part.media_type,
                size=file.size,
                sha256=file.digest.hexdigest(),
            )
        )

    def _end_field(self) -> None:
        name = self._part.name
        try:
            value = self._held.decode()
        except UnicodeDecodeError:
            raise InvalidRequest(f"The field '{name[:100]}' is not UTF-8.") from None
        self._held = bytearray()
        if name in self._fields:
            raise InvalidRequest(f"The field '{name[:100]}' is there twice.", param=name[:100])
        self._fields[name] = value


class _File:
    """A file that is being written. Its methods block."""

    def __init__(self, uploads: Uploads) -> None:
        self.job_id = str(uuid.uuid4())
        self.size = 0
        self.digest = hashlib.sha256()
        self.file: IO[bytes] = uploads.create(self.job_id)
        self._uploads = uploads

    def write(self, data: bytes) -> None:
        with translated():
            self.file.write(data)
        self.size += len(data)
        self.digest.update(data)

    def end(self) -> None:
        self._uploads.keep(self.file)
        self.file.close()
