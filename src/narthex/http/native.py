"""What the endpoints below `/api` share: who may come in, query, body, a caller who leaves, what was ignored."""

from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager

from narthex.core.errors import InvalidRequest
from narthex.core.keys import Principal
from narthex.dialects.fields import refuse_unknown
from narthex.http.asgi import Headers, ended_by_hangup, refuse_foreign_media
from narthex.http.exchange import Exchange
from narthex.http.query import parameters
from narthex.http.routes import Endpoint
from narthex.policy.auth import authorize

SURFACE = "documents"
"""The grant for collections and what is in them."""
_LONGEST_HEADER = 4096
_FLAGS = {"true": True, "1": True, "false": False, "0": False, "": True}


class Asked:
    """An endpoint that gets no query but of names that it knows, `known`.

    A name that nobody reads is refused, or named as ignored to a lenient caller.
    """

    def __init__(self, endpoint: Endpoint, *, known: Collection[str], lenient: bool) -> None:
        self._endpoint = endpoint
        self._known = dict.fromkeys(known)
        self._lenient = lenient

    async def __call__(self, exchange: Exchange) -> None:
        """Answer, unless the query can't be honoured."""
        sent = dict(parameters(exchange))
        strict = exchange.caller.key.strict and not self._lenient
        tell_ignored(exchange, refuse_unknown(sent, self._known, strict=strict))
        await self._endpoint(exchange)


def granted(exchange: Exchange) -> Principal:
    """Who asks, if they may use documents.

    Raises:
        PermissionDenied: the surface is not granted.
    """
    authorize(exchange.caller, surface=SURFACE)
    return exchange.caller


async def json_body(exchange: Exchange, *, limit_bytes: int) -> bytes:
    """The body, which is to be JSON.

    Raises:
        UnsupportedMediaType, RequestTooLarge: it is not, or it is too large.
        Draining: the time to drain is over.
    """
    refuse_foreign_media(exchange.headers)
    return await exchange.body(limit_bytes=limit_bytes)


@asynccontextmanager
async def while_wanted(exchange: Exchange) -> AsyncIterator[None]:
    """Run a block until the caller leaves or the time to drain is over. The body has been read.

    Raises:
        CallerLeft, Draining: that has ended it.
    """
    if exchange.on_lost is not None:
        async with exchange.until_cut(or_left=True):
            yield
    else:
        async with ended_by_hangup(exchange.receive), exchange.until_cut():
            yield


def query_value(exchange: Exchange, name: str) -> str | None:
    """The one value of a name in the query; None where it isn't there.

    Raises:
        InvalidRequest: it is there twice, or the query is too long.
    """
    values = [value for sent, value in parameters(exchange) if sent == name]
    if len(values) > 1:
        raise InvalidRequest(f"Invalid '{name}': it is there twice.", param=name)
    return values[0] if values else None


def query_flag(exchange: Exchange, name: str) -> bool:
    """Whether the query asks for something that it can only ask for or not.

    Raises:
        InvalidRequest: it says neither, or says it twice.
    """
    value = query_value(exchange, name)
    if value is None:
        return False
    if value not in _FLAGS:
        raise InvalidRequest(f"Invalid '{name}': expected 'true' or 'false'.", param=name)
    return _FLAGS[value]


def tell_ignored(exchange: Exchange, names: Iterable[str]) -> None:
    """Name what had no effect in the answer's head, whatever the answer will be, beside what was named before."""
    if named := ", ".join(dict.fromkeys(names)).encode("unicode_escape")[:_LONGEST_HEADER]:
        headers: Headers = [*exchange.told(), (b"x-narthex-ignored", named)]
        exchange.told = lambda: headers
