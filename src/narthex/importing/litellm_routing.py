"""LiteLLM's `router_settings` and `litellm_settings`: how the deployments of a name are tried.

Source: LiteLLM's pages on routing and on reliability, November 2026.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from narthex.importing.document import Section
from narthex.importing.litellm_models import Group, ModelList, Target

_STRATEGIES = {"simple-shuffle": "weighted", "least-busy": "least_busy", "latency-based-routing": "fastest"}
_EVERY = "*"
_LAST = float("inf")
_TOTAL_S = 590.0
"""Ours for a whole request; LiteLLM has none, so that a longer attempt needs one of its own."""


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for all names. Lists of names by the name that falls back; `*` for every other."""

    strategy: str = "weighted"
    retries: float | None = None
    backoff_s: float | None = None
    cooldown_s: float | None = None
    attempt_s: float | None = None
    first_token_s: float | None = None
    fallbacks: Mapping[str, list[str]] = {}
    context_window: Mapping[str, list[str]] = {}
    content_filter: Mapping[str, list[str]] = {}


class Both:
    """The two sections as LiteLLM reads them: what stands in both, the router's says."""

    def __init__(self, router: Section | None, litellm: Section | None) -> None:
        self._sections = [section for section in (router, litellm) if section is not None]

    def holding(self, *keys: str) -> tuple[Section, str] | None:
        """Where the first of these keys stands."""
        found = [(section, key) for section in self._sections for key in keys if key in section]
        for section, key in found[1:]:
            section.tell(key, f"`{found[0][0].path}.{found[0][1]}` is there as well, and wins")
        return found[0] if found else None

    def number(self, *keys: str) -> float | None:
        """A number by the first of these keys."""
        found = self.holding(*keys)
        return None if found is None else found[0].number(found[1])


def rules(both: Both) -> Rules:
    """Read both sections; what else is in them is left to be told."""
    fallbacks = _names(both, "fallbacks")
    if found := both.holding("default_fallbacks"):
        section, key = found
        value = section.value(key)
        fallbacks.setdefault(_EVERY, _texts(value if isinstance(value, list) else [value], section, key))
    return Rules(
        strategy=_strategy(both),
        retries=both.number("num_retries"),
        backoff_s=both.number("retry_after"),
        cooldown_s=both.number("cooldown_time"),
        attempt_s=both.number("timeout", "request_timeout"),
        first_token_s=both.number("stream_timeout"),
        fallbacks=fallbacks,
        context_window=_names(both, "context_window_fallbacks"),
        content_filter=_names(both, "content_policy_fallbacks"),
    )


def _strategy(both: Both) -> str:
    found = both.holding("routing_strategy")
    asked = found[0].text(found[1]) if found else None
    if found and asked is not None and asked not in _STRATEGIES:
        found[0].tell(found[1], "there is no such strategy: deployments are drawn by weight")
    return _STRATEGIES.get(asked or "", "weighted")


def _names(both: Both, key: str) -> dict[str, list[str]]:
    """`[{name: [names]}, …]` as one map."""
    found = both.holding(key)
    if found is None:
        return {}
    section, _ = found
    value = section.value(key)
    rows = value if isinstance(value, list) else [value]
    for row in rows:
        if not isinstance(row, dict):
            section.tell(key, "it is not a list of maps from a name to names")
            return {}
    return {
        str(name): _texts(names if isinstance(names, list) else [names], section, key)
        for row in rows
        for name, names in row.items()
    }


def _texts(names: list[Any], section: Section, key: str) -> list[str]:
    if any(not isinstance(name, str) for name in names):
        section.tell(key, "a fallback with a request of its own is not known here", of="(some)")
    return [name for name in names if isinstance(name, str)]


# --- rows ------------------------------------------------------------------------------------------------------------


class Tables:
    """Makes the rows of `models`. `both`: for telling of fallbacks that lead nowhere."""

    def __init__(self, models: ModelList, rules: Rules, both: Both) -> None:
        self._models, self._rules, self._both = models, rules, both

    def rows(self) -> list[dict[str, Any]]:
        """A row for each group, and for each alias of one."""
        aliases = self._aliases()
        self._mention("fallbacks", self._rules.fallbacks)
        self._mention("context_window_fallbacks", self._rules.context_window)
        self._mention("content_policy_fallbacks", self._rules.content_filter)
        made = {name: self._row(name, group) for name, group in self._models.groups.items()}
        for alias, name in aliases.items():
            made.setdefault(alias, {**made[name], "name": alias})
        return list(made.values())

    def _row(self, name: str, group: Group) -> dict[str, Any]:
        row: dict[str, Any] = {"name": name}
        main = _weighed(group.targets)
        spare = self._led_to(name, self._rules.fallbacks, beside=main, every=True)
        row |= self._deployments(group, main, spare)
        if timeouts := self._timeouts(group):
            row["timeouts"] = timeouts
        if retry := self._retry(group, len(main), len(spare)):
            row["retry"] = retry
        asked = {
            "context_window": self._led_to(name, self._rules.context_window, beside=main),
            "content_filter": self._led_to(name, self._rules.content_filter, beside=main),
        }
        if fallbacks := {kind: names for kind, names in asked.items() if names}:
            row["fallbacks"] = fallbacks
        return row

    def _deployments(self, group: Group, main: dict[str, float], spare: list[str]) -> dict[str, Any]:
        if len(main) == 1:
            return {"deployments": [*main, *spare]}
        if any(target.order is not None for target in group.targets):
            first = sorted(group.targets, key=lambda target: _LAST if target.order is None else target.order)
            return {"deployments": [*dict.fromkeys(target.to for target in first), *spare]}
        if self._rules.strategy == "fastest" and not spare:
            return {"deployments": list(main), "strategy": "fastest"}
        weighed = [{"to": to, "weight": _short(weight)} for to, weight in main.items()]
        row: dict[str, Any] = {"deployments": weighed + [{"to": to, "weight": 0} for to in spare]}
        if self._rules.strategy == "least_busy":
            row["strategy"] = "least_busy"
        elif self._rules.strategy == "fastest" and (found := self._both.holding("routing_strategy")):
            found[0].tell(found[1], "a name with fallbacks draws its deployments by weight", of="(some)")
        return row

    def _timeouts(self, group: Group) -> dict[str, Any]:
        attempt_s = group.attempt_s or self._rules.attempt_s
        first_token_s = group.first_token_s or self._rules.first_token_s
        longer_s = attempt_s if attempt_s and attempt_s > _TOTAL_S else None
        found = {"first_token": first_token_s, "attempt": attempt_s, "total": longer_s}
        return {name: _short(value) for name, value in found.items() if value}

    def _retry(self, group: Group, main: int, spare: int) -> dict[str, Any]:
        retries = self._rules.retries if group.retries is None else group.retries
        found: dict[str, Any] = {}
        if retries is not None:
            found["attempts"] = max(int(retries) + 1, main) + spare
        if self._rules.backoff_s:
            found["backoff"] = _short(self._rules.backoff_s)
        if self._rules.cooldown_s:
            found["cooldown"] = _short(self._rules.cooldown_s)
        return found

    # --- names for names

    def _led_to(
        self, name: str, table: Mapping[str, list[str]], *, beside: Mapping[str, float], every: bool = False
    ) -> list[str]:
        """The deployments of the names that a name falls back to, without its own."""
        names = table.get(name) or (table.get(_EVERY) if every else None) or []
        groups = [self._models.groups[each] for each in names if each in self._models.groups]
        found = dict.fromkeys(target.to for group in groups for target in group.targets)
        return [to for to in found if to not in beside]

    def _mention(self, key: str, table: Mapping[str, list[str]]) -> None:
        found = self._both.holding(key)
        for name, others in table.items():
            for each in (name, *others):
                if each != _EVERY and not self._models.mention(each) and found:
                    found[0].tell(found[1], f"nobody answers for '{each[:100]}'", of=name)

    def _aliases(self) -> dict[str, str]:
        found = self._both.holding("model_group_alias")
        value = found[0].value(found[1]) if found else None
        if found is None or not isinstance(value, dict):
            return {}
        made = {}
        for alias, meant in value.items():
            hidden = isinstance(meant, dict) and meant.get("hidden")
            name = meant.get("model") if isinstance(meant, dict) else meant
            if hidden:
                found[0].tell(found[1], "every name is listed to those who may use it", of=f"{alias}.hidden")
            if isinstance(name, str) and self._models.mention(name):
                made[str(alias)] = name
            else:
                found[0].tell(found[1], "nobody answers for the name that it stands for", of=str(alias))
        return made


def _weighed(targets: list[Target]) -> dict[str, float]:
    """Each deployment with its share: by `weight`, else by `rpm`, else by `tpm`, where the first has it."""
    kind = next((place for place, share in enumerate(targets[0].shares) if share is not None), None)
    found: dict[str, float] = {}
    for target in targets:
        share = 1.0 if kind is None else target.shares[kind] or 0.0
        found[target.to] = found.get(target.to, 0.0) + share
    return found if any(found.values()) else dict.fromkeys(found, 1.0)


def _short(value: float) -> float | int:
    return int(value) if value == int(value) else value
