"""One request, what its vendor's server received of it, and the answer."""

import json
from collections.abc import Mapping

import msgspec
from tests.raw_asgi import Caller
from tests.walk.upstream import Heard
from tests.walk.values import Body

RENAMED: Mapping[tuple[str, str], str] = {
    ("mistral", "seed"): "random_seed",
    ("mistral", "dimensions"): "output_dimension",
    ("sglang", "include_stop_str_in_output"): "no_stop_trim",
}
"""What a vendor calls a field that it takes as it is."""


class Seen(msgspec.Struct, kw_only=True):
    """One request's fate. `type`: of the provider. `kept`: what was stored of it, where that was asked for."""

    type: str
    surface: str
    asked: Body
    answer: Caller
    heard: list[Heard]
    kept: Body | None = None

    @property
    def body(self) -> Body:
        """What the vendor's server received last."""
        return self.heard[-1].body

    @property
    def said(self) -> Body:
        """The answer as one object: of a stream, the first piece that tells something."""
        if self.answer.headers["content-type"].startswith("text/event-stream"):
            return next(each for each in self.pieces if each.get("choices"))
        found: Body = self.answer.json()
        return found

    @property
    def pieces(self) -> list[Body]:
        return [json.loads(each) for each in self.answer.events() if each.startswith("{")]

    @property
    def message(self) -> Body:
        found: Body = self.said["choices"][0]["message"]
        return found


def is_sent(field: str, seen: Seen) -> bool:
    """Whether the server received it as it was written, by its own name for it; marks that it knows not are named."""
    if field == "tools" and "cache_control" in json.dumps(seen.asked[field]) and seen.type != "narthex":
        unmarked = [
            {name: each for name, each in tool.items() if name != "cache_control"} for tool in seen.asked[field]
        ]
        return seen.body[field] == unmarked and "cache_control" in seen.answer.headers["x-narthex-ignored"]
    name = RENAMED.get((seen.type, field), field)
    return name in seen.body and seen.body[name] == seen.asked[field]
