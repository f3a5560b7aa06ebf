"""`/v1/models`. Source: contract section 1.8 and answer Q33."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from narthex.core.errors import ModelNotFound, PermissionDenied
from narthex.core.keys import Principal
from narthex.core.models import ModelCard
from narthex.http.exchange import Exchange
from narthex.policy.auth import authorize, authorize_admin
from narthex.wire.json import encode

Remove = Callable[[str], Awaitable[None]]


class Models:
    """The list of models that a key may use. `cards` is asked anew each time; `remove` deletes a local model."""

    def __init__(self, cards: Callable[[], Mapping[str, ModelCard]], *, remove: Remove) -> None:
        self._cards = cards
        self._remove = remove

    async def list(self, exchange: Exchange) -> None:
        """`GET /v1/models`."""
        principal = granted(exchange)
        data = [_object(card) for name, card in sorted(self._cards().items()) if principal.may_use_model(name)]
        await exchange.reply(200, encode({"object": "list", "data": data}))

    async def retrieve(self, exchange: Exchange) -> None:
        """`GET /v1/models/{model}`."""
        await exchange.reply(200, encode(_object(self._card(granted(exchange), exchange.parameters["model"]))))

    async def delete(self, exchange: Exchange) -> None:
        """`DELETE /v1/models/{model}`: for admins, and only for models that were added here."""
        principal = granted(exchange)
        card = self._card(principal, exchange.parameters["model"])
        authorize_admin(principal)
        if not card.removable:
            raise PermissionDenied(f"The model '{card.id}' is built in or configured, and can't be deleted here.")
        await self._remove(card.id)
        await exchange.reply(200, encode({"id": card.id, "object": "model", "deleted": True}))

    def _card(self, principal: Principal, name: str) -> ModelCard:
        card = self._cards().get(name)
        if card is None or not principal.may_use_model(name):
            raise ModelNotFound.named(name)
        return card


def granted(exchange: Exchange) -> Principal:
    """Who asks, if they may see models.

    Raises:
        PermissionDenied: the surface `models` is not granted.
    """
    authorize(exchange.caller, surface="models")
    return exchange.caller


def _object(card: ModelCard) -> dict[str, Any]:
    return {"id": card.id, "object": "model", "created": card.created, "owned_by": card.owned_by}
