"""`/admin`: what only an admin's key may do to a running server."""

from collections.abc import Awaitable, Callable

import msgspec

from narthex.core.errors import InvalidRequest
from narthex.http.exchange import Exchange
from narthex.wire.json import encode


class Reloaded(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a reload: the settings that are in force anew and those that need a restart, by name.

    `faults`: why nothing has changed, one text for each; none: it went well.
    """

    changed: list[str] = []
    needs_restart: list[str] = []
    faults: list[str] = []


class Admin:
    """Endpoints for admins; the application lets nobody else in."""

    def __init__(self, reload: Callable[[], Awaitable[Reloaded]]) -> None:
        """`reload` has the settings read again and returns once all workers serve by them."""
        self._reload = reload

    async def reload(self, exchange: Exchange) -> None:
        """`POST /admin/reload`."""
        told = await self._reload()
        if told.faults:
            message = "\n".join(["The settings are invalid, nothing has changed:", *told.faults])
            raise InvalidRequest(message, code="invalid_configuration")
        body = {"object": "reload", "changed": told.changed, "needs_restart": told.needs_restart}
        await exchange.reply(200, encode(body))
