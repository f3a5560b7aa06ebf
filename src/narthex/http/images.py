"""Images that are answered as addresses: kept here for an hour, and given to whoever knows their name.

Source: contract section 1.8. Rule: a name is 192 random bits and as good as a key; it stands in no log and no list.
"""

import asyncio
import binascii
import contextlib
import errno
import os
import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path

from narthex.core.errors import NotFound, StorageError, StorageFull
from narthex.core.images import UNKNOWN_MEDIA, ImagesRequest, media_type
from narthex.core.ports import Call, Handler, Opened, Stream
from narthex.core.stream import Event, Frame, ImageReady
from narthex.http.asgi import Headers, header
from narthex.http.exchange import Exchange
from narthex.http.routes import Endpoint

PATH = "/v1/images/files/"
KEPT_S = 3600.0
MAX_BYTES = 1024 * 1024 * 1024
"""Of all images together, over which no further calls are taken. What was called for already is kept all the same."""

_MEDIA = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp", "bin": UNKNOWN_MEDIA}
_ENDINGS = {media: ending for ending, media in _MEDIA.items()}
_NAME = re.compile(rf"[A-Za-z0-9_-]{{32}}\.({'|'.join(_MEDIA)})").fullmatch
_AUTHORITY = re.compile(rb"[A-Za-z0-9.:_\[\]-]{1,255}").fullmatch


class ImageFiles:
    """A folder of images. `clock` gives unix seconds. All methods block; all workers share the folder."""

    def __init__(
        self, folder: Path, *, clock: Callable[[], float], kept_s: float = KEPT_S, max_bytes: int = MAX_BYTES
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._kept_s = kept_s
        self._max_bytes = max_bytes

    def sweep(self) -> int:
        """Delete what is too old; returns the size of the rest, in bytes.

        Raises:
            StorageError: the folder can't be used.
        """
        with _translated():
            self._folder.mkdir(mode=0o700, exist_ok=True)
            oldest = self._clock() - self._kept_s
            size = 0
            with os.scandir(self._folder) as entries:
                for entry in filter(lambda entry: _NAME(entry.name), entries):
                    with contextlib.suppress(FileNotFoundError):  # another worker was first
                        status = entry.stat(follow_symlinks=False)
                        if status.st_mtime <= oldest:
                            Path(entry).unlink()
                        else:
                            size += status.st_size
            return size

    def make_room(self) -> None:
        """Sweep.

        Raises:
            StorageFull: there is no room for more images.
        """
        if self.sweep() >= self._max_bytes:
            raise StorageFull("Too many images are kept here now: ask for 'response_format' 'b64_json'.")

    def write(self, data: bytes) -> str:
        """Keep an image; returns its name.

        Raises:
            StorageError: it can't be written.
        """
        name = f"{secrets.token_urlsafe(24)}.{_ENDINGS[media_type(data)]}"
        path = self._folder / name
        with _translated():
            try:
                with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
                    file.write(data)
                now = self._clock()
                os.utime(path, (now, now))
            except OSError:
                path.unlink(missing_ok=True)
                raise
        return name

    def read(self, name: str) -> tuple[bytes, str, float]:
        """The image of a name, its media type, and the seconds that it is still kept.

        Raises:
            NotFound: there is none, or not any more.
        """
        if (found := _NAME(name)) is None:
            raise NotFound("There is no such image.")
        try:
            with (self._folder / name).open("rb") as file:
                left_s = os.fstat(file.fileno()).st_mtime + self._kept_s - self._clock()
                data = file.read() if left_s > 0 else b""
        except FileNotFoundError:
            left_s, data = 0.0, b""
        if left_s <= 0:
            raise NotFound("There is no such image, or not any more: addresses of images end after an hour.")
        return data, _MEDIA[found[1]], left_s

    async def endpoint(self, exchange: Exchange) -> None:
        """`GET /v1/images/files/{name}`, for everybody."""
        data, media, left_s = await asyncio.to_thread(self.read, exchange.parameters["name"])
        headers: Headers = [
            (b"content-type", media.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"cache-control", b"private, max-age=%d" % left_s),
        ]
        await exchange.reply(200, data, headers)


class KeptImages:
    """The endpoint that makes images: where addresses are asked for, it keeps the images and answers with those.

    `surface` makes the endpoint that answers out of a handler.
    """

    def __init__(self, files: ImageFiles, *, handler: Handler, surface: Callable[[Handler], Endpoint]) -> None:
        self._files = files
        self._handler = handler
        self._surface = surface

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one request."""
        await self._surface(partial(self._open, origin=_origin(exchange)))(exchange)

    def _open(self, call: Call, *, origin: str) -> Opened:
        request = call.request
        asked = isinstance(request, ImagesRequest) and request.response_format == "url"
        return self._kept(call, origin) if asked else self._handler(call)

    @asynccontextmanager
    async def _kept(self, call: Call, origin: str) -> AsyncIterator[Stream]:
        await asyncio.to_thread(self._files.make_room)  # before anything is made, and paid for
        async with self._handler(call) as frames, aclosing(self._frames(frames, origin)) as kept:
            yield kept

    async def _frames(self, frames: Stream, origin: str) -> AsyncGenerator[Frame, None]:
        async for frame in frames:
            yield Frame.of(*[await self._with_address(event, origin) for event in frame.events])

    async def _with_address(self, event: Event, origin: str) -> Event:
        if not isinstance(event, ImageReady):
            return event
        name = await asyncio.to_thread(lambda: self._files.write(binascii.a2b_base64(event.b64)))
        return ImageReady(url=f"{origin}{PATH}{name}", revised_prompt=event.revised_prompt, traits=event.traits)


def _origin(exchange: Exchange) -> str:
    """Scheme and host as the caller wrote them; our own address where the caller wrote nothing of use."""
    sent = header(exchange.headers, b"host") or b""
    if _AUTHORITY(sent):
        authority = sent.decode()
    else:
        host, port = exchange.scope.get("server") or ("localhost", None)
        authority = "localhost" if port is None else f"{host}:{port}"
    return f"{exchange.scope.get('scheme', 'http')}://{authority}"


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        raise (StorageFull() if full else StorageError("Images can't be kept now.")) from error
