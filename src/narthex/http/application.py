"""The outermost ASGI layer: request ids, who may come in, errors into answers, the access log, the drain.

Rule: whatever happens below, the caller gets an answer, and every answer and log line bears the request's id.
"""

import asyncio
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import structlog

from narthex.core.errors import AuthenticationFailed, Draining, InvalidRequest, NarthexError
from narthex.http.asgi import CallerLeft, Direct, Receive, Rest, Scope, Send, raising
from narthex.http.exchange import RETRY_WHILE_DRAINING_S, Exchange, fault_of
from narthex.http.images import PATH as IMAGES
from narthex.http.metrics import Metrics
from narthex.http.routes import Begins, Route, Routes
from narthex.ipc import logs
from narthex.policy.auth import Authenticator, authorize_admin, usual_digest

log = structlog.get_logger(__name__)

_MOST_HOSTS = 100


def _log_access(line: dict[str, Any]) -> None:
    log.info("request", **line)


class _Ids:
    """Names of requests: 128 random bits in hexadecimal. The system is asked for many at a time."""

    _AT_A_TIME = 256

    def __init__(self) -> None:
        self._digits = ""
        self._at = 0

    def __call__(self) -> str:
        if self._at == len(self._digits):
            self._digits, self._at = secrets.token_hex(16 * self._AT_A_TIME), 0
        begin, self._at = self._at, self._at + 32
        return self._digits[begin : self._at]


class Application:
    """One worker's ASGI application."""

    def __init__(
        self,
        routes: Routes,
        authenticator: Authenticator,
        *,
        metrics: Metrics,
        allowed_hosts: Sequence[str],
        profile: str = "openai",
        access: Callable[[dict[str, Any]], None] = _log_access,
    ) -> None:
        """`allowed_hosts`: Host headers (without port) to answer to, `*` for all; `profile` shapes 401s.

        `access` logs a request.
        """
        self._routes = routes
        self._authenticator = authenticator
        self._metrics = metrics
        self._profile = profile
        self._access = access
        self._hosts = None if "*" in allowed_hosts else frozenset(host.lower() for host in allowed_hosts)
        self._answered_to: set[bytes] = set()
        self._begun_at: dict[str, tuple[Route, Begins]] = {
            route.path: (route, endpoint) for route in routes.all if (endpoint := _begins(route)) is not None
        }
        self._loop: asyncio.AbstractEventLoop | None = None
        self._new_id = _Ids()
        self._idle = asyncio.Event()
        self._idle.set()
        self._exchanges: set[Exchange] = set()
        self.draining = False

    @property
    def running(self) -> int:
        """Requests under way."""
        return len(self._exchanges)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification; only HTTP is served."""
        if scope["type"] != "http":
            return
        exchange = Exchange(scope, receive, send, request_id=f"req_{self._new_id()}")
        self._enter(exchange)
        await self._served(exchange, partial(self._found, exchange))

    def begin(self, scope: Scope, direct: Direct) -> bool:
        """Serve a request that is here whole without a task, as far as that goes; the rest is left to `direct.go_on`.
        False: nothing was done, it is to be served as any other.
        """
        if self.draining or not direct.has_all:
            return False
        head = direct.head
        known: _Known | None = None if head is None else head.known
        if known is None or known[0] is not self:
            known = self._known(scope, direct.named)
            if head is not None:
                head.known = known
        if known is None or (principal := self._authenticator.known(known[3])) is None:
            return False
        _, route, endpoint, _ = known
        exchange = Exchange(scope, direct.receive, direct.send, request_id=f"req_{self._new_id()}")
        exchange.route, exchange.principal = route.path, principal
        exchange.facts["key"] = principal.key.prefix
        self._enter(exchange)
        try:
            rest = endpoint.begin(exchange, direct.whole() or b"", over=self._over)
        except Exception as error:  # noqa: BLE001 - raised again where all errors are told
            rest = raising(error)
        if rest is not None:
            self._over(exchange, rest)
        return True

    def _known(self, scope: Scope, named: Mapping[bytes, bytes]) -> "_Known | None":
        """What a request that is begun without a task leads to, by its head; None: it is to be served as any other."""
        found = self._begun_at.get(scope["path"])
        if found is None or scope["method"] != "POST" or not self._answers_to(named):
            return None
        digest = usual_digest(scope["headers"], named)
        return None if digest is None else (self, *found, digest)

    def _over(self, exchange: Exchange, rest: Rest | None) -> None:
        """What was begun without a task is done, or goes on in one."""
        if rest is None:
            self._leave(exchange)
        else:
            exchange.go_on(partial(self._served, exchange, rest))

    def _enter(self, exchange: Exchange) -> None:
        if not self._exchanges:
            self._idle.clear()
        self._exchanges.add(exchange)

    def _leave(self, exchange: Exchange) -> None:
        self._exchanges.discard(exchange)
        if not self._exchanges:
            self._idle.set()
        self._account(exchange)

    async def _served(self, exchange: Exchange, rest: Rest) -> None:
        """Serve the rest of a request, in its own task."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()  # kept: finding it takes a system call
        exchange.served_by(asyncio.current_task(self._loop))
        logs.REQUEST_ID.set(exchange.request_id)
        try:
            await self._answered(exchange, rest)
        finally:
            self._leave(exchange)

    async def wait_idle(self) -> None:
        """Until no request runs."""
        await self._idle.wait()

    def cut(self) -> None:
        """End the requests that run: each is told why, by its status or at the end of its stream."""
        for exchange in self._exchanges:
            exchange.cut()

    async def _found(self, exchange: Exchange) -> None:
        """Find the endpoint, and have it answer."""
        self._check_host(exchange)
        scope = exchange.scope
        found = self._routes.find(exchange.method, scope["path"], scope.get("raw_path"))
        route, endpoint, exchange.parameters = found
        exchange.route = route.path
        if route.access != "open":
            await self._admit(exchange, route)
        await endpoint(exchange)

    async def _answered(self, exchange: Exchange, rest: Rest) -> None:
        try:
            await rest()
        except CallerLeft:
            exchange.facts["outcome"] = "caller left"
        except NarthexError as error:
            if error.status >= 500 and not error.by_wish:
                log.warning("request failed", request_id=exchange.request_id, exc_info=error)
            await self._failed(exchange, error)
        except Exception as error:  # the outermost layer: a fault of ours is a 500 and no dead socket
            log.exception("request failed", request_id=exchange.request_id)
            await self._failed(exchange, fault_of(error))

    async def _failed(self, exchange: Exchange, error: NarthexError) -> None:
        if exchange.begun:
            return
        profile = self._profile
        if isinstance(error, AuthenticationFailed):
            profile = getattr(error, "profile", None) or profile
        await exchange.fail(error, profile=profile, close=isinstance(error, Draining))

    async def _admit(self, exchange: Exchange, route: Route) -> None:
        if self.draining:
            raise Draining(retry_after_s=RETRY_WHILE_DRAINING_S)
        exchange.principal = principal = await self._authenticator.authenticate(exchange.headers)
        exchange.facts["key"] = principal.key.prefix
        if route.access == "admin":
            authorize_admin(principal)

    def _answers_to(self, named: Mapping[bytes, bytes]) -> bool:
        """Whether it surely answers to the host that is named."""
        return self._hosts is None or (named.get(b"host") or b"localhost") in self._answered_to

    def _check_host(self, exchange: Exchange) -> None:
        """Against DNS rebinding: a page of another site must not reach us under its own name (ARCHITECTURE D10)."""
        if self._hosts is None or self._answers_to(exchange.named):
            return
        sent = exchange.named.get(b"host") or b"localhost"
        host = sent.decode("latin-1").lower()
        name = re.sub(r":\d+$", "", host)
        if name in self._hosts:
            if len(self._answered_to) < _MOST_HOSTS:
                self._answered_to.add(sent)
        else:
            raise InvalidRequest(
                f"This server does not answer to the host name '{name[:100]}'. Add it to `allowed_hosts`."
            )

    def _account(self, exchange: Exchange) -> None:
        elapsed_s = time.monotonic() - exchange.started_s
        status = exchange.status or 499
        self._metrics.answered(exchange.route or "unknown", exchange.method, status, elapsed_s)
        facts = exchange.facts
        if "prompt_tokens" in facts:
            self._metrics.used(
                facts.get("deployment", ""),
                prompt_tokens=facts["prompt_tokens"],
                completion_tokens=facts["completion_tokens"],
            )
        self._access(
            {
                "request_id": exchange.request_id,
                "method": exchange.method,
                "path": _logged(exchange.scope["path"]),
                "status": status,
                "seconds": round(elapsed_s, 4),
                **facts,
            }
        )


_Known = tuple[Application, Route, Begins, bytes]
"""What a head leads to in an application: its route and what begins there, and the digest of the key it bears."""


def _begins(route: Route) -> Begins | None:
    """What begins to answer posts to a route, if anything does."""
    endpoint: object = route.endpoints.get("POST") if route.access == "key" and not route.parameters else None
    return endpoint if isinstance(endpoint, Begins) else None


def _logged(path: str) -> str:
    """A path as logs may tell it: the name of an image is as good as a key."""
    return f"{IMAGES}***" if path.startswith(IMAGES) else path[:200]
