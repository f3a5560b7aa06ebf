"""`/v1/chat/completions` as what was stored there. Source: contract section 1.5."""

from collections.abc import Callable

from narthex.core.errors import NotFound
from narthex.core.stored import Reach, StoredChats
from narthex.dialects import openai_stored
from narthex.http.exchange import Exchange
from narthex.http.native import json_body, tell_ignored
from narthex.http.query import parameters
from narthex.policy.auth import authorize

SURFACE = "stored"
"""The grant for reading, changing and deleting them. To store one is to chat."""
ID = "completion_id"


class StoredEndpoints:
    """The endpoints over one store. `clock` gives unix seconds; `kept_s`: how long a completion is kept."""

    def __init__(
        self,
        chats: StoredChats,
        *,
        clock: Callable[[], float],
        kept_s: float,
        body_limit_bytes: int,
        lenient: bool,
    ) -> None:
        self._chats = chats
        self._clock = clock
        self._kept_s = kept_s
        self._body_limit_bytes = body_limit_bytes
        self._lenient = lenient

    async def list(self, exchange: Exchange) -> None:
        """`GET /v1/chat/completions`."""
        reach = self._reach(exchange)
        query, ignored = openai_stored.list_query(parameters(exchange), strict=self._strict(exchange))
        tell_ignored(exchange, ignored)
        await exchange.reply(200, openai_stored.shown_page(await self._chats.list(reach, query)))

    async def retrieve(self, exchange: Exchange) -> None:
        """`GET /v1/chat/completions/{completion_id}`."""
        chat = await self._chats.get(self._reach(exchange), exchange.parameters[ID])
        await exchange.reply(200, openai_stored.shown(chat))

    async def update(self, exchange: Exchange) -> None:
        """`POST /v1/chat/completions/{completion_id}`: other metadata."""
        reach, chat_id = self._reach(exchange), exchange.parameters[ID]
        body = await json_body(exchange, limit_bytes=self._body_limit_bytes)
        metadata, ignored = openai_stored.update_of(body, strict=self._strict(exchange))
        tell_ignored(exchange, ignored)
        await exchange.reply(200, openai_stored.shown(await self._chats.relabel(reach, chat_id, metadata)))

    async def delete(self, exchange: Exchange) -> None:
        """`DELETE /v1/chat/completions/{completion_id}`."""
        chat_id = exchange.parameters[ID]
        await self._chats.delete(self._reach(exchange), chat_id)
        await exchange.reply(200, openai_stored.deleted(chat_id))

    async def messages(self, exchange: Exchange) -> None:
        """`GET /v1/chat/completions/{completion_id}/messages`: what was asked."""
        reach, chat_id = self._reach(exchange), exchange.parameters[ID]
        query, ignored = openai_stored.messages_query(parameters(exchange), strict=self._strict(exchange))
        tell_ignored(exchange, ignored)
        items = await self._chats.messages(reach, chat_id)
        page = openai_stored.shown_messages(items, query, chat_id=chat_id)
        if page is None:
            raise NotFound(f"There is no message '{str(query.after)[:100]}'.", param="after")
        await exchange.reply(200, page)

    def _reach(self, exchange: Exchange) -> Reach:
        principal = exchange.caller
        authorize(principal, surface=SURFACE)
        return Reach(account_id=principal.account.id, since_s=int(self._clock() - self._kept_s))

    def _strict(self, exchange: Exchange) -> bool:
        return exchange.caller.key.strict and not self._lenient
