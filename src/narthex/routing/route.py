"""Public models: which deployments may answer for a name, and by which rules they are tried."""

from collections.abc import Callable
from typing import Literal

import msgspec

from narthex.core.models import ModelCard
from narthex.core.ports import Deployment

ANY = "*"
"""The name that stands for every model that has no row of its own."""

Strategy = Literal["order", "weighted", "least_busy", "fastest"]


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """How the deployments of one public model are tried. Times are in seconds; None: no such limit.

    `attempts`: the most for one request; None: each deployment once.
    `backoff_s`: about how long to wait before the second round; doubles with each further one.
    `cooldown_s`: how long a deployment that failed too often is tried last.
    `first_token_s`, `idle_s`: the longest wait for the first output, and between two frames.
    `min_pieces_per_s`: how many pieces of output are to come in a second, on the average of a while.
    `attempt_s`: the longest that one attempt may take; `total_s`: all of them, None: as the server's.
    `rescue`: a stream that breaks off is continued by the next deployment that can.
    """

    strategy: Strategy = "order"
    attempts: int | None = None
    backoff_s: float = 0.5
    cooldown_s: float = 30.0
    connect_s: float | None = None
    first_token_s: float | None = None
    idle_s: float | None = None
    min_pieces_per_s: float | None = None
    attempt_s: float | None = None
    total_s: float | None = None
    rescue: bool = False

    @property
    def paces(self) -> bool:
        """Whether a clock runs on single pieces of an answer."""
        return self.first_token_s is not None or self.idle_s is not None or self.min_pieces_per_s is not None

    @property
    def ticks(self) -> bool:
        """Whether any clock runs on an attempt."""
        return self.paces or self.attempt_s is not None


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """A public model as it is configured; deployments by their `provider/model` names.

    `weights`: one for each deployment, or none. `context_window`, `content_filter`: who is asked instead when the
    prompt is too long for whoever was asked, or when their filter refused it. `trusts_templates`: requests may bring a
    chat template, if their key may.
    """

    deployments: tuple[str, ...]
    weights: tuple[float, ...] = ()
    rules: Rules = Rules()
    context_window: tuple[str, ...] = ()
    content_filter: tuple[str, ...] = ()
    trusts_templates: bool = False


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """A public model: its card, and the deployments that may answer, in order of preference.

    `weights`, `context_window`, `content_filter` and `trusts_templates`: as in `Named`. `exists` tells
    whether it is still there: a local model can be deleted while we serve.
    """

    card: ModelCard
    deployments: tuple[Deployment, ...]
    weights: tuple[float, ...] = ()
    rules: Rules = Rules()
    context_window: tuple[Deployment, ...] = ()
    content_filter: tuple[Deployment, ...] = ()
    trusts_templates: bool = False
    listed: bool = True
    """Whether callers are told of it."""
    exists: Callable[[], bool] = lambda: True
