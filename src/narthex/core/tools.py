"""Tools that a model may call. Source: contract section 1.2.3."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import msgspec
from typing_extensions import override

CACHED = "tools.cache_control"
"""How capabilities, and requests that have one, name a mark in tools: up to it the prompt is to be kept for others."""
NO_PARAMETERS = b'{"type":"object","properties":{},"additionalProperties":false}'


class Tool:
    """A function that the caller would run. Never changed."""

    __slots__ = ("_parameters", "description", "name", "path")

    def __init__(
        self, *, name: str, description: str = "", parameters: bytes | Mapping[str, Any] = NO_PARAMETERS, path: str
    ) -> None:
        """`path` tells where the schema of its parameters stands in the request, for errors."""
        self.name = name
        self.description = description
        self.path = path
        self._parameters = parameters

    @property
    def parameters(self) -> bytes:
        """The JSON text of that schema. Written when first asked for: who passes a request on never does."""
        if not isinstance(self._parameters, bytes):
            self._parameters = msgspec.json.encode(self._parameters)
        return self._parameters

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tool) and self._facts() == other._facts()

    @override
    def __hash__(self) -> int:
        return hash(self._facts())

    @override
    def __repr__(self) -> str:
        return f"Tool({self.name!r})"

    def _facts(self) -> tuple[str, str, bytes, str]:
        return self.name, self.description, self.parameters, self.path


class Tools:
    """What a model may call in one answer. Never changed.

    `callable_`: the tools that may be called now; the rest of `all_` is only known. `required`: it has to call one.
    `parallel`: it may call several.
    """

    __slots__ = ("_all", "_names", "parallel", "required")

    def __init__(
        self,
        *,
        all_: tuple[Tool, ...] | Callable[[], tuple[Tool, ...]],
        callable_: Collection[str] | None = None,
        required: bool = False,
        parallel: bool = True,
    ) -> None:
        """`all_` may be made when first asked for: who passes requests on never does. `callable_`: names; None: all."""
        self._all = all_
        self._names = callable_
        self.required = required
        self.parallel = parallel

    @property
    def all_(self) -> tuple[Tool, ...]:
        """Those that are known."""
        if callable(self._all):
            self._all = self._all()
        return self._all

    @property
    def callable_(self) -> tuple[Tool, ...]:
        """Those that may be called."""
        names = self._names
        return self.all_ if names is None else tuple(tool for tool in self.all_ if tool.name in names)
