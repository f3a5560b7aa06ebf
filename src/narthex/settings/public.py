"""The branch of the names that callers ask for."""

import re
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field, PositiveFloat, PositiveInt

from narthex.settings.part import Part

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0}


def _in_seconds(value: Any) -> Any:
    """`30s`, `500ms` and `2m` as numbers; anything else is left for the type to judge."""
    if isinstance(value, str) and (match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m)", value.strip())):
        return float(match[1]) * _UNITS_S[match[2]]
    return value


Seconds = Annotated[PositiveFloat, Field(allow_inf_nan=False), pydantic.BeforeValidator(_in_seconds)]


class Weighted(Part):
    """A deployment with its weight."""

    to: str = Field(min_length=1, description="Who may answer: local/<model>, <provider>/<model>.")
    weight: float = Field(
        1.0, ge=0, allow_inf_nan=False, description="Its share of the requests; 0: only when the others fail."
    )


class Timeouts(Part):
    """How long things may take: seconds, or text such as 500ms, 30s, 2m."""

    connect: Seconds | None = Field(None, description="A new connection to the model's server; none: 2 s.")
    first_token: Seconds | None = Field(
        None, description="The first output of an attempt. The provider's own limit holds too."
    )
    idle: Seconds | None = Field(
        None, description="The longest silence within an answer. The provider's own limit holds too."
    )
    min_tokens_per_s: PositiveFloat | None = Field(
        None,
        allow_inf_nan=False,
        description="The slowest pace of an answer that has begun: so many pieces of output, each a token or a few, in "
        "a second, on an average of 10 s; none: any pace.",
    )
    attempt: Seconds | None = Field(None, description="One attempt in all; none: as long as the request may take.")
    total: Seconds | None = Field(None, description="The request with all its attempts; none: `http.total_s`.")


class Retry(Part):
    """What happens when an attempt fails."""

    attempts: PositiveInt | None = Field(
        None, description="The most attempts for one request; none: 3, or one for each deployment if those are more."
    )
    backoff: Seconds = Field(0.5, description="About how long to wait before the second round; doubles each round.")
    cooldown: Seconds = Field(30.0, description="How long a deployment that failed too often is tried last.")


class Fallbacks(Part):
    """Who is asked instead when a request is refused."""

    context_window: tuple[str, ...] = Field((), description="When the prompt is too long.")
    content_filter: tuple[str, ...] = Field((), description="When a content filter refused it, before any output.")


class PublicModel(Part):
    """A name that callers ask for."""

    name: str = Field(min_length=1, description="What callers send as `model`; '*' for every name without a row.")
    deployments: tuple[str | Weighted, ...] = Field(
        min_length=1,
        description="Who may answer, in order: local/<model>, <provider>/<model>, or {to: …, weight: …} for a share.",
    )
    strategy: Literal["order", "weighted", "least_busy", "fastest"] | None = Field(
        None,
        description="Whom to try first: the first listed, one drawn by weight, the least busy, or the one that begins "
        "to answer soonest; none: weighted where a weight is given, else order.",
    )
    timeouts: Timeouts = Field(Timeouts(), description="How long things may take.")
    retry: Retry = Field(Retry(), description="What happens when an attempt fails.")
    fallbacks: Fallbacks = Field(Fallbacks(), description="Who is asked instead when a request is refused.")
    trust_request_chat_template: bool = Field(
        default=False,
        description="Let requests bring a chat template of their own (`chat_template`), if their key may send one. "
        "Whoever may has the text that the model reads in hand, control tokens included.",
    )
    rescue: bool | None = Field(
        None,
        description="Let the next deployment continue a stream that breaks off, where it can continue a text; none: "
        "where all deployments run a model of the same name.",
    )

    @property
    def rows(self) -> tuple[Weighted, ...]:
        """The deployments, each with its weight."""
        return tuple(Weighted(to=each, weight=1.0) if isinstance(each, str) else each for each in self.deployments)

    @property
    def rescues(self) -> bool:
        """Whether a stream that breaks off is continued."""
        if self.rescue is not None:
            return self.rescue
        return len({row.to.partition("/")[2] for row in self.rows}) == 1

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> "PublicModel":
        for part in ([row.to for row in self.rows], self.fallbacks.context_window, self.fallbacks.content_filter):
            if len(set(part)) < len(part):
                raise ValueError("a deployment is listed twice")
        if not any(row.weight for row in self.rows):
            raise ValueError("at least one deployment needs a weight above 0")
        if self.strategy in {"order", "fastest"} and any(isinstance(each, Weighted) for each in self.deployments):
            raise ValueError(f"the strategy '{self.strategy}' knows no weights")
        return self
