"""`/healthz` (this process lives) and `/readyz` (it can serve)."""

from collections.abc import Awaitable, Callable, Mapping

from narthex.core.errors import NarthexError
from narthex.http.exchange import Exchange
from narthex.wire.json import encode


class Health:
    """`probes` are awaited by `/readyz`, each under its name; one that raises makes us unready."""

    def __init__(self, probes: Mapping[str, Callable[[], Awaitable[None]]], *, draining: Callable[[], bool]) -> None:
        self._probes = probes
        self._draining = draining

    async def alive(self, exchange: Exchange) -> None:
        """`GET /healthz`."""
        await exchange.reply(200, encode({"status": "ok"}))

    async def ready(self, exchange: Exchange) -> None:
        """`GET /readyz`: 503 while draining or while something that every request needs is away."""
        checks = {"draining": "yes" if self._draining() else "no"}
        failed = self._draining()
        for name, probe in self._probes.items():
            try:
                await probe()
                checks[name] = "ok"
            except NarthexError as error:
                checks[name] = error.message
                failed = True
        status = "unready" if failed else "ready"
        await exchange.reply(503 if failed else 200, encode({"status": status, "checks": checks}))
