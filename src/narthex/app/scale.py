"""The routes of Scale's API. Source: contract section 0.4."""

from collections.abc import Callable

from narthex.core.ports import Dialect
from narthex.dialects.scale_chat import ScaleChatDialect
from narthex.dialects.scale_completions import ScaleCompletionsDialect
from narthex.http.routes import Endpoint, Route


def scale_routes(surface: Callable[[Dialect], Endpoint]) -> list[Route]:
    """`surface` serves a dialect."""
    dialects: dict[str, Dialect] = {
        "/v4/beta/chat/completions": ScaleChatDialect(),
        "/v4/beta/completions": ScaleCompletionsDialect(),
    }
    return [
        Route(path=path, endpoints={"POST": surface(dialect)}, surface=dialect.surface)
        for path, dialect in dialects.items()
    ]
