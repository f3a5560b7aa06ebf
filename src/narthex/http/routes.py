"""Which endpoint a path and a method lead to. Source: contract section 0.4."""

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, Protocol, runtime_checkable
from urllib.parse import unquote

import msgspec

from narthex.core.errors import MethodNotAllowed, RouteNotFound
from narthex.http.asgi import Rest
from narthex.http.exchange import Exchange

Endpoint = Callable[[Exchange], Awaitable[None]]
Over = Callable[[Exchange, Rest | None], None]
"""Is told that a request which was begun without a task is answered; or what is left to do for it, in a task."""
Access = Literal["open", "key", "admin"]
"""Who may come in: anybody, any live key (the endpoint then asks for its surface), or an admin's key."""

_PARAMETER = re.compile(r"\{(\w+)\}")


@runtime_checkable
class Begins(Protocol):
    """An `Endpoint` that may begin to answer without a task."""

    def begin(self, exchange: Exchange, body: bytes, *, over: Over) -> Rest | None:
        """Begin, for an exchange with a principal. What is left to do; None: `over` will hear of it.

        Raises what the endpoint raises.
        """
        ...


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One path with its endpoint for each method. A path that ends in `{name}` takes the rest, slashes included."""

    path: str
    endpoints: dict[str, Endpoint]
    access: Access = "key"
    surface: str = ""
    """The grant that the endpoint asks for; "" where any live key will do."""
    segments: bool = False
    """Each `{name}`, of any number, is one segment of the path as it was sent: an encoded slash stays within it."""

    @property
    def prefix(self) -> str:
        """What comes before the first parameter."""
        return self.path.partition("{")[0]

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the parameters, in order."""
        return tuple(_PARAMETER.findall(self.path))


class Routes:
    """The table of all routes."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.all = tuple(routes)
        self._exact = {route.path: route for route in routes if not route.parameters}
        self._segmented = [(_pattern(route.path), route) for route in routes if route.parameters and route.segments]
        rest = (route for route in routes if route.parameters and not route.segments)
        self._open_ended = sorted(rest, key=lambda route: -len(route.prefix))

    def find(self, method: str, path: str, sent: bytes | None = None) -> tuple[Route, Endpoint, dict[str, str]]:
        """The route, its endpoint and the parameters from the path.

        `path` is percent-decoded already; `sent`: as it came, without a query; None: as `path`.

        Raises:
            RouteNotFound: no route has this path.
            MethodNotAllowed: the path is right, the method is not.
        """
        route, parameters = self._match(path, sent)
        if route is None:
            raise RouteNotFound(f"Invalid URL ({method} {path[:200]})")
        endpoint = route.endpoints.get("GET" if method == "HEAD" else method)
        if endpoint is None:
            allow = tuple(sorted({*route.endpoints, *(("HEAD",) if "GET" in route.endpoints else ())}))
            message = f"Not allowed to {method[:20]} on {path[:200]} (HINT: use {' or '.join(allow)}.)"
            raise MethodNotAllowed(message, allow=allow)
        return route, endpoint, parameters

    def _match(self, path: str, sent: bytes | None) -> tuple[Route | None, dict[str, str]]:
        if (route := self._exact.get(path)) is not None:
            return route, {}
        for route in self._open_ended:
            if path.startswith(route.prefix) and len(path) > len(route.prefix):
                return route, {route.parameters[0]: path[len(route.prefix) :]}
        return self._match_segments(path, sent)

    def _match_segments(self, path: str, sent: bytes | None) -> tuple[Route | None, dict[str, str]]:
        whole = path if sent is None else sent.decode("latin-1")
        for pattern, route in self._segmented:
            if (found := pattern(whole)) is not None:
                try:
                    values = [text if sent is None else unquote(text, errors="strict") for text in found.groups()]
                except UnicodeDecodeError:
                    break
                return route, dict(zip(route.parameters, values, strict=True))
        return None, {}


def _pattern(path: str) -> Callable[[str], re.Match[str] | None]:
    """What a path matches whole: between its parameters it is as written, and each of these is one segment."""
    pieces = _PARAMETER.split(path)
    return re.compile("".join("([^/]+)" if at % 2 else re.escape(piece) for at, piece in enumerate(pieces))).fullmatch
