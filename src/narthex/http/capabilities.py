"""`GET /v1/capabilities`: what becomes of each request field, for every model that a key may use.

Source: ARCHITECTURE D3; contract sections 8.2 and 11.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from narthex.core.capabilities import NEUTRAL, Capabilities, Limited, State
from narthex.core.errors import InvalidRequest, ModelNotFound
from narthex.core.ports import Surface
from narthex.core.templates import TEMPLATE
from narthex.dialects import openai_chat, openai_completions, openai_embeddings, openai_images, openai_speech
from narthex.dialects.fields import Field
from narthex.http.exchange import Exchange
from narthex.http.models import granted
from narthex.http.query import parameters
from narthex.routing.catalogue import cards
from narthex.routing.router import Route, Router
from narthex.wire.json import encode

KNOWN: Mapping[Surface, Mapping[str, Field]] = {
    "chat": openai_chat.FORM.known,
    "completions": openai_completions.FORM.known,
    "embeddings": openai_embeddings.FORM.known,
    "images": openai_images.FORM.known,
    "speech": openai_speech.FORM.known,
}
"""Every field that a surface's dialect reads, extensions last."""


class Fate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What becomes of one field. `limits`: which of its values are honoured, or pass because they ask for nothing."""

    state: State
    limits: str = ""


def fates(surface: Surface, honoured: Capabilities) -> dict[str, Fate]:
    """What becomes of every field that a surface knows."""
    return {name: _fate(name, field, honoured) for name, field in KNOWN[surface].items()}


def _fate(name: str, field: Field, honoured: Capabilities) -> Fate:
    rule = honoured.get(name, State.REFUSED)
    if isinstance(rule, Limited):
        return Fate(state=rule.state, limits=rule.limits)
    passing = ", ".join(_neutral(name, field)) if rule is State.REFUSED else ""
    return Fate(state=rule, limits=f"except {passing}" if passing else "")


def _neutral(name: str, field: Field) -> Iterator[str]:
    """The values that ask for nothing, as a caller writes them; not all are of the type that every surface takes."""
    for value in NEUTRAL.get(name, ()):
        written = encode(value)
        with contextlib.suppress(InvalidRequest):
            field.parse(msgspec.json.decode(written), name)
            yield written.decode()


class ModelCapabilities:
    """The table of each model: by deployment, surface and field."""

    def __init__(self, router: Router) -> None:
        self._router = router

    async def list(self, exchange: Exchange) -> None:
        """`GET /v1/capabilities`, of all models or of the one that the query names."""
        principal = granted(exchange)
        wanted = _wanted(exchange)
        if wanted is None:
            routes = {name: self._router.routes[name] for name in sorted(cards(self._router.routes))}
        else:
            routes = {wanted: self._router.route(wanted)}
            if not principal.may_use_model(wanted):
                raise ModelNotFound.named(wanted)
        data = [_object(name, route) for name, route in routes.items() if principal.may_use_model(name)]
        await exchange.reply(200, encode({"object": "list", "data": data}))


def _wanted(exchange: Exchange) -> str | None:
    """The query's `model`. Other parameters mean nothing here, as on every route."""
    values = [value for name, value in parameters(exchange) if name == "model"]
    if len(values) > 1:
        raise InvalidRequest("'model' was sent more than once.", param="model")
    return values[0] if values else None


def _allowed(honoured: Capabilities, route: Route) -> Capabilities:
    """The same without what this public model takes from nobody."""
    if route.trusts_templates:
        return honoured
    return {name: rule for name, rule in honoured.items() if name != TEMPLATE}


def _object(name: str, route: Route) -> dict[str, Any]:
    deployments = []
    for deployment in route.deployments:
        honoured = {surface: deployment.capabilities(surface) for surface in KNOWN}
        surfaces = {
            surface: fates(surface, _allowed(each, route)) for surface, each in honoured.items() if each is not None
        }
        deployments.append({"name": deployment.name, "surfaces": surfaces})
    return {"id": name, "object": "model.capabilities", "deployments": deployments}
