"""What the endpoints below `/api` share: who may come in, the body, a caller who leaves, what was ignored."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from narthex.core.errors import InvalidRequest
from narthex.core.keys import Principal
from narthex.http.asgi import Headers, ended_by_hangup, refuse_foreign_media
from narthex.http.exchange import Exchange
from narthex.http.query import parameters
from narthex.policy.auth import authorize

SURFACE = "documents"
"""The grant for collections and what is in them."""
_LONGEST_HEADER = 4096


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


def tell_ignored(exchange: Exchange, names: Iterable[str]) -> None:
    """Name the fields that had no effect in the answer's head, whatever the answer will be."""
    if named := ", ".join(dict.fromkeys(names)).encode("unicode_escape")[:_LONGEST_HEADER]:
        headers: Headers = [(b"x-narthex-ignored", named)]
        exchange.told = lambda: headers
