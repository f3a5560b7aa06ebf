"""Tools that a model may call. Source: contract section 1.2.3."""

import msgspec


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A function that the caller would run. `parameters` is the JSON text of its schema.

    `path` tells where that schema stands in the request, for errors.
    """

    name: str
    description: str = ""
    parameters: bytes = b'{"type":"object","properties":{},"additionalProperties":false}'
    path: str


class Tools(msgspec.Struct, frozen=True, kw_only=True):
    """What a model may call in one answer.

    `callable_`: the tools that may be called now; the rest of `all_` is only known. `required`: it has to call one.
    `parallel`: it may call several.
    """

    all_: tuple[Tool, ...]
    callable_: tuple[Tool, ...]
    required: bool = False
    parallel: bool = True
