"""Which endpoint a path and a method lead to. Source: contract section 0.4."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

import msgspec

from narthex.core.errors import MethodNotAllowed, RouteNotFound
from narthex.http.exchange import Exchange

Endpoint = Callable[[Exchange], Awaitable[None]]
Access = Literal["open", "key", "admin"]
"""Who may come in: anybody, any live key (the endpoint then asks for its surface), or an admin's key."""


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One path with its endpoint for each method. A path that ends in `{name}` takes the rest, slashes included."""

    path: str
    endpoints: dict[str, Endpoint]
    access: Access = "key"
    surface: str = ""
    """The grant that the endpoint asks for; "" where any live key will do."""

    @property
    def prefix(self) -> str:
        """What comes before the parameter."""
        return self.path.partition("{")[0]

    @property
    def parameter(self) -> str:
        """The parameter's name, or ""."""
        return self.path.partition("{")[2].rstrip("}")


class Routes:
    """The table of all routes."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.all = tuple(routes)
        self._exact = {route.path: route for route in routes if not route.parameter}
        self._open_ended = sorted((route for route in routes if route.parameter), key=lambda route: -len(route.prefix))

    def find(self, method: str, path: str) -> tuple[Route, Endpoint, dict[str, str]]:
        """The route, its endpoint and the parameters from the path (already percent-decoded).

        Raises:
            RouteNotFound: no route has this path.
            MethodNotAllowed: the path is right, the method is not.
        """
        route, parameters = self._match(path)
        if route is None:
            raise RouteNotFound(f"Invalid URL ({method} {path[:200]})")
        endpoint = route.endpoints.get("GET" if method == "HEAD" else method)
        if endpoint is None:
            allow = tuple(sorted({*route.endpoints, *(("HEAD",) if "GET" in route.endpoints else ())}))
            message = f"Not allowed to {method[:20]} on {path[:200]} (HINT: use {' or '.join(allow)}.)"
            raise MethodNotAllowed(message, allow=allow)
        return route, endpoint, parameters

    def _match(self, path: str) -> tuple[Route | None, dict[str, str]]:
        if (route := self._exact.get(path)) is not None:
            return route, {}
        for route in self._open_ended:
            if path.startswith(route.prefix) and len(path) > len(route.prefix):
                return route, {route.parameter: path[len(route.prefix) :]}
        return None, {}
