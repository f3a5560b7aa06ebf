"""The image model's process as its callers see it: its settings, its calls, and the client.

    draw    DrawCall  → Accepted    checks the call and lets it wait for its turn
    next    job       → Drawn       the next thing that there is of it
    drop    job       → null        whatever is left of it is not made
    state   null      → State
    retire  null      → {"retired": bool}   true: nothing waited or ran, the process takes no more and ends

Rule: a job belongs to the connection that it came over, bears its caller's number, and ends with the connection.
"""

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import msgspec

from narthex.ipc.client import Client
from narthex.ipc.logs import LogFormat


class ImagesSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings line of the process. It stands here because who starts the process must not load its libraries.

    `room_bytes`: what work may take beside the weights; 0: no limit. `idle_unload_s` None: never.
    """

    name: str
    folder: str
    socket: str
    threads: int = 0
    steps: int = 25
    guidance: float = 7.5
    room_bytes: int = 0
    idle_unload_s: float | None = None
    max_waiting: int = 256
    max_waiting_per_key: int = 64
    log_format: LogFormat = "auto"


class DrawCall(msgspec.Struct, frozen=True, kw_only=True):
    """Payload of `draw`. Of `size` see `ImagesRequest`; `steps` None: as many as the settings and `quality` come to."""

    job: int
    key: str
    prompt: str
    negative: str = ""
    size: str = "auto"
    n: int = 1
    steps: int | None = None
    quality: str = "auto"
    sampler: str | None = None
    seed: int | None = None
    partials: int = 0
    output: Literal["png", "jpeg", "webp"] = "png"
    compression: int = 100


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `draw`. `size` as `WxH`; `tokens`: of the prompt and the negative prompt."""

    size: str
    tokens: int


class Drawn(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `next`: a file. `partial`: which look at the unfinished image it is, from 0; None: it is the image."""

    data: bytes
    partial: int | None = None


class State(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `state`: jobs, and the steps that were made since the process began."""

    waiting: int
    running: int
    steps: int


class Drawing(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller gets: what the images will be, and the images as they come."""

    accepted: Accepted
    images: AsyncIterator[Drawn]


class Painter:
    """A client of one model's process; safe for any number of tasks of one loop."""

    def __init__(self, socket: Path, name: str, *, on_lost: Callable[[], None] | None = None) -> None:
        self._client = Client(socket, name=f"image model {name}", on_lost=on_lost)
        self._numbers = itertools.count(1)

    @asynccontextmanager
    async def draw(self, call: DrawCall) -> AsyncIterator[Drawing]:
        """Let it draw; leaving the block stops the work within a step. `call.job` is set here.

        Raises:
            InvalidRequest, ContextLengthExceeded: the model can't make this.
            QueueFull: too much waits already.
            EngineUnavailable, EngineCrashed: the process is not there, or ended.
        """
        call = msgspec.structs.replace(call, job=next(self._numbers))
        try:
            accepted = await self._client.call("draw", call, Accepted)
            yield Drawing(accepted=accepted, images=self._images(call))
        finally:
            await self._client.notify("drop", call.job)

    async def state(self, *, timeout_s: float | None = None) -> State:
        """What it is at.

        Raises:
            EngineUnavailable, EngineCrashed: the process is not there, or ended.
        """
        return await self._client.call("state", None, State, timeout_s=timeout_s)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._client.aclose()

    async def _images(self, call: DrawCall) -> AsyncIterator[Drawn]:
        left = call.n
        while left:
            drawn = await self._client.call("next", call.job, Drawn)
            left -= drawn.partial is None
            yield drawn
