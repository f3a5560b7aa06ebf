"""Having stored completions deleted that are too old. Nobody sees those any more; this is for disks and owners."""

import asyncio
from collections.abc import Callable

import structlog

from narthex.core.errors import NarthexError
from narthex.core.stored import StoredChats
from narthex.http.worker import WorkerSettings
from narthex.jobs.waking import Waker

log = structlog.get_logger(__name__)

EVERY_S = 3600.0


async def aged(
    chats: StoredChats, waker: Waker, *, settings: Callable[[], WorkerSettings], clock: Callable[[], float]
) -> None:
    """Look now and every hour, until cancelled; wake the process that tidies up where there is something to delete."""
    while True:
        now = settings()
        try:
            oldest_s = await chats.oldest_s()
            if oldest_s is not None and oldest_s < clock() - now.stored_kept_s:
                waker.wake(now.digest)
        except NarthexError as error:
            log.warning("stored completions can't be looked at", error=error.message)
        await asyncio.sleep(EVERY_S)
