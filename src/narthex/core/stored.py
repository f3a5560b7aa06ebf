"""Chat completions that callers have stored, and the store of them. Source: contract sections 1.5 and 11.

Rule: whoever asks sees what their own account has stored and is not too old yet; nothing else exists for them.
"""

from collections.abc import Mapping
from typing import Literal, Protocol

import msgspec

from narthex.core.capabilities import Rule, State

FIELDS: dict[str, Rule] = {"store": State.EMULATED, "metadata": State.EMULATED}
"""What becomes of these fields with every chat model: we keep the answer, and their server hears nothing of it."""

Order = Literal["asc", "desc"]


class StoredChat(msgspec.Struct, frozen=True, kw_only=True):
    """One stored completion. `answer`: the object as it is shown, but for its metadata, as JSON."""

    id: str
    created_s: int
    model: str
    metadata: Mapping[str, str]
    answer: bytes


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody may see: what this account stored of what was created at `since_s` or later."""

    account_id: str
    since_s: int


class ChatQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which of them to list. All pairs of `metadata` must match; `after`: the id that the page comes after."""

    model: str | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    after: str | None = None
    limit: int = 20
    order: Order = "asc"


class ChatPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some of them, in order. `more`: others come after these."""

    chats: tuple[StoredChat, ...] = ()
    more: bool = False


class StoredChats(Protocol):
    """The store. A change is durable and seen by every worker once its call returns.

    Every method raises `StorageError` when the database can't answer and, where it writes, `StorageFull`.
    """

    async def make_room(self, account_id: str, *, max_bytes: int) -> None:
        """Return if the account may store more.

        Raises:
            StorageFull: it has stored so much already.
        """
        ...

    async def add(self, chat: StoredChat, *, account_id: str, messages: bytes) -> None:
        """Store it. `messages`: what was asked, a JSON array of items as they are shown."""
        ...

    async def get(self, reach: Reach, chat_id: str) -> StoredChat:
        """Raises `NotFound` where there is none."""
        ...

    async def messages(self, reach: Reach, chat_id: str) -> bytes:
        """What was asked, as it was given to `add`. Raises `NotFound` where there is none."""
        ...

    async def list(self, reach: Reach, query: ChatQuery) -> ChatPage:
        """A page by the time of creation; shorter than its limit where the answers are long.

        Raises:
            NotFound: nothing ever had the id that it is to come after.
        """
        ...

    async def relabel(self, reach: Reach, chat_id: str, metadata: Mapping[str, str]) -> StoredChat:
        """Replace all of its metadata. Raises `NotFound` where there is none."""
        ...

    async def delete(self, reach: Reach, chat_id: str) -> None:
        """Raises `NotFound` where there is none, or none any more."""
        ...

    async def prune(self, *, before_s: int, at_most: int) -> int:
        """Delete those that were created before; so many at a time. How many it were."""
        ...

    async def oldest_s(self) -> int | None:
        """When the oldest of all was created; None: there is none."""
        ...
