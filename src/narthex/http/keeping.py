"""Storing answers that their callers want to find again. Source: contract sections 1.5 and 11.

Rule: whoever got an answer to its last byte finds it in the store, also if every process was killed right then. So it
is stored once it is complete, and before its end is sent; one that can't be stored ends with the error instead.
"""

from collections.abc import AsyncIterator
from typing import Self

from typing_extensions import override

from narthex.core.chat import ChatRequest
from narthex.core.memory import without
from narthex.core.ports import Call, Stream
from narthex.core.stored import StoredChats
from narthex.core.stream import Frame
from narthex.dialects.openai_stored import chat_of, messages_of


class Keeping:
    """Stores answers of chats. `max_bytes`: of all that one account may store."""

    def __init__(self, chats: StoredChats, *, max_bytes: int) -> None:
        self._chats = chats
        self._max_bytes = max_bytes

    async def make_room(self, call: Call) -> None:
        """Return if there is room for one more: asked before anything is made, and paid for.

        Raises:
            StorageFull: the account has stored too much already.
            StorageError: the store can't be used.
        """
        await self._chats.make_room(call.principal.account.id, max_bytes=self._max_bytes)

    async def keep(self, call: Call, answer: bytes) -> None:
        """Store an answer, as the caller gets it whole; durable once this returns.

        Raises:
            StorageError: it can't be stored; StorageFull where the disk is full.
        """
        request = call.request
        assert isinstance(request, ChatRequest)  # noqa: S101 - no other surface stores
        chat = chat_of(request, answer, request_id=f"req_{call.id}")
        messages = messages_of(without(request, call.forgotten - request.forgotten), chat_id=chat.id)
        await self._chats.add(chat, account_id=call.principal.account.id, messages=messages)


class Noted(AsyncIterator[Frame]):
    """A stream that notes what it gives."""

    def __init__(self, frames: Stream) -> None:
        self._frames = frames
        self.frames: list[Frame] = []

    @override
    def __aiter__(self) -> Self:
        return self

    @override
    async def __anext__(self) -> Frame:
        frame = await anext(self._frames)
        self.frames.append(frame)
        return frame
