"""Images that a server of models would fetch from within our network: fetched by us instead, and sent as data.

Source: ARCHITECTURE D10; contract section 1.2.1; docs/design/egress.md.

Rule: what such a server gets is written anew from what was checked, so that nothing a second reader would read
differently (a name that comes twice, say) can hide an address.
"""

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from narthex.core.chat import ChatRequest, FilePart, ImagePart, Message, Part
from narthex.core.deployments import Around
from narthex.core.errors import InvalidRequest
from narthex.core.ports import Call, Deployment, Opened, Stream
from narthex.core.sent import Sent
from narthex.upstream.address import Address
from narthex.upstream.egress import MIB, Allowance, Fetcher, Refused
from narthex.upstream.reach import is_private, may_connect

MOST_IMAGES = 50
"""Addresses of images in one request."""
TOGETHER_BYTES = 50 * MIB
"""All images of one request."""

_is_data = re.compile(r"data:", re.IGNORECASE).match
_is_web = re.compile(r"https?://", re.IGNORECASE).match
_is_address = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.-]*:").match  # no base64 has a colon

_decode = msgspec.json.Decoder().decode


class Whereabouts:
    """Whether a server of models is on a private network. Its name is looked up when that first matters."""

    def __init__(self, address: Address, fetcher: Fetcher) -> None:
        self._address = address
        self._fetcher = fetcher
        self._private = is_private(address)

    async def private(self) -> bool:
        """A name that can't be looked up counts as private, until it can."""
        if self._private is None:
            host, port = self._address.host, self._address.port
            try:
                addresses = await self._fetcher.resolve(host, port)
            except OSError:
                return True
            # Its port is the operator's choice; only the addresses tell.
            self._private = not may_connect(host, addresses, 443, allow=())
        return self._private


class ImagesAsData(Around):
    """A deployment whose server is to fetch nothing from where it stands. Others' requests pass untouched."""

    def __init__(self, deployment: Deployment, fetcher: Fetcher, *, whereabouts: Whereabouts | None) -> None:
        """`whereabouts` None: its server must never fetch, wherever it stands."""
        super().__init__(deployment)
        self._fetcher = fetcher
        self._whereabouts = whereabouts

    def open(self, call: Call) -> Opened:
        """See `Deployment.open`.

        Raises:
            InvalidRequest: an image can't be fetched, or is not to be.
        """
        request = call.request
        if isinstance(request, ChatRequest) and not isinstance(request.sent, Sent) and _may_hold_address(request):
            return self._open(call, request)
        return self._deployment.open(call)

    @asynccontextmanager
    async def _open(self, call: Call, request: ChatRequest) -> AsyncIterator[Stream]:
        if self._whereabouts is None or await self._whereabouts.private():
            call = call.asking(await self._with_data(request))
        async with self._deployment.open(call) as frames:
            yield frames

    async def _with_data(self, request: ChatRequest) -> ChatRequest:
        """The same request with every image as data."""
        asked = _addresses(request.messages)
        if len(asked) > MOST_IMAGES:
            raise _invalid(f"there are more than {MOST_IMAGES} of them", "messages")
        for url, path in asked.items():
            if not _is_web(url):
                raise _invalid("it is not a valid http(s) or data URL", path)
            if not self._fetcher.fetches:
                raise _invalid("images have to be sent to this model as data URLs", path)
        return _rewritten(request, await self._fetched(asked))

    async def _fetched(self, asked: Mapping[str, str]) -> dict[str, str]:
        """A data URL for each URL; `asked` tells where in the request each stands."""
        allowance = Allowance(max(TOGETHER_BYTES, self._fetcher.max_bytes))
        data: dict[str, str] = {}

        async def fetch(url: str, path: str) -> None:
            try:
                kind, image = await self._fetcher.fetch(url, allowance)
            except Refused as refused:
                raise _invalid(refused.why, path) from refused
            data[url] = f"data:{kind};base64,{base64.b64encode(image).decode()}"

        try:
            async with asyncio.TaskGroup() as tasks:
                for url, path in asked.items():
                    tasks.create_task(fetch(url, path))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return data


def _may_hold_address(request: ChatRequest) -> bool:
    """Whether the names of members that hold addresses are there, plain or perhaps escaped. Asked of nearly all."""
    messages = bytes(request.sent["messages"])
    if b'"image_url"' in messages or b'"file_data"' in messages:
        return True
    return b"\\" in messages and b"\\u" in messages  # a single byte is found much sooner


def _invalid(why: str, path: str) -> InvalidRequest:
    return InvalidRequest(f"The image can't be fetched: {why}.", param=path, code="invalid_image_url")


def _parts(messages: tuple[Message, ...]) -> Iterator[tuple[str, Part]]:
    """Every part, and where it stands."""
    for index, message in enumerate(messages):
        for place, part in enumerate(message.content if isinstance(message.content, tuple) else ()):
            yield f"messages[{index}].content[{place}]", part


def _addresses(messages: tuple[Message, ...]) -> dict[str, str]:
    """The URL of every image that is no data yet, and where it stands first.

    Raises:
        InvalidRequest: a file has an address: this contract knows none, but some servers would fetch it.
    """
    found: dict[str, str] = {}
    for path, part in _parts(messages):
        if isinstance(part, ImagePart) and not _is_data(part.url):
            found.setdefault(part.url, f"{path}.image_url.url")
        elif isinstance(part, FilePart) and _is_address(part.file_data or "") and not _is_data(part.file_data or ""):
            raise InvalidRequest("A file has to be sent as data.", param=f"{path}.file.file_data", code="invalid_value")
    return found


# --- the request, written anew -------------------------------------------------------------------------------------


def _rewritten(request: ChatRequest, data: Mapping[str, str]) -> ChatRequest:
    messages = tuple(_message(each, data) for each in request.messages)
    sent = _decode(request.sent["messages"])
    for message in sent:
        _replace(message.get("content"), data)
    raw = msgspec.Raw(msgspec.json.encode(sent))
    return msgspec.structs.replace(
        request,
        messages=messages,
        fields={**request.fields, "messages": messages},
        sent={**request.sent, "messages": raw},
    )


def _message(message: Message, data: Mapping[str, str]) -> Message:
    if not isinstance(message.content, tuple):
        return message
    parts = tuple(
        ImagePart(data[part.url], part.detail) if isinstance(part, ImagePart) and part.url in data else part
        for part in message.content
    )
    return msgspec.structs.replace(message, content=parts)


def _replace(content: Any, data: Mapping[str, str]) -> None:
    """Put data where addresses stand in the parts of one message."""
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, dict) and part.get("type") == "image_url":
            image = part["image_url"]
            image["url"] = data.get(image["url"], image["url"])
