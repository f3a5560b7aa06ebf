"""LiteLLM's `model_list`: who may answer for each name, and the servers that they stand on.

Source: LiteLLM's pages on its proxy's configuration and on load balancing, November 2026.
"""

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from narthex.importing.document import Section
from narthex.importing.litellm_entries import Entry
from narthex.importing.litellm_reasons import PARAMS
from narthex.importing.litellm_servers import COMPATIBLE, Meant
from narthex.importing.variables import Variables


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment. `shares`: its weights as LiteLLM knows them: `weight`, `rpm`, `tpm`. `order`: lower ones first."""

    to: str
    shares: tuple[float | None, ...] = (None, None, None)
    order: float | None = None


class Group(msgspec.Struct, kw_only=True):
    """All deployments of one name, and the longest limits that any of them has."""

    targets: list[Target] = []
    attempt_s: float | None = None
    first_token_s: float | None = None
    retries: float | None = None


class ModelList:
    """The groups by name, and the providers' rows by name."""

    def __init__(self, entries: Iterable[Entry], variables: Variables) -> None:
        self.groups: dict[str, Group] = {}
        self.providers: dict[str, dict[str, Any]] = {}
        self._wildcards: list[tuple[str, str]] = []
        self._variables = variables
        known = list(entries)
        for entry in known:
            if entry.meant.server.key is not None and entry.params.text("api_key") is None:
                variables.use(entry.meant.server.key)  # so that no secret of the file gets this name
        for entry in known:
            self._add(entry)
        self._wildcards.sort(key=lambda wildcard: len(wildcard[0]), reverse=True)

    def _add(self, entry: Entry) -> None:
        provider = self._provider(entry)
        to = f"{provider}/{entry.meant.model}"
        if not entry.of_many:
            self._deploy(entry.name, to, entry.params)
            entry.close()
            return
        why = f"no name stands for many: give each a row under `models`, as `{provider}/<model>`"
        entry.section.tell("model_name", why)
        self._wildcards.append((entry.name, to))
        entry.close("it is for the rows of its names")

    def mention(self, name: str) -> bool:
        """Whether anybody answers for a name; one that only a wildcard knows gets a group of its own."""
        if name in self.groups:
            return True
        for pattern, to in self._wildcards:  # the longest first, as the most exact
            if match := _pattern(pattern).fullmatch(name):
                target = Target(to=to.replace("*", match[1] if match.groups() else name, 1))
                self.groups[name] = Group(targets=[target])
                return True
        return False

    # --- deployments

    def _deploy(self, name: str, to: str, params: Section) -> None:
        group = self.groups.setdefault(name, Group())
        shares = tuple(params.number(key) for key in ("weight", "rpm", "tpm"))
        for key, share in zip(("rpm", "tpm"), shares[1:], strict=True):
            if share is not None:
                params.tell(key, PARAMS[key])
        group.targets.append(Target(to=to, shares=shares, order=params.number("order")))
        group.attempt_s = self._longest(group.attempt_s, params, "timeout")
        group.first_token_s = self._longest(group.first_token_s, params, "stream_timeout")
        for key in ("max_retries", "num_retries"):
            group.retries = self._longest(group.retries, params, key)

    @staticmethod
    def _longest(already: float | None, params: Section, key: str) -> float | None:
        value = params.number(key)
        if value is None or already is None or value == already:
            return already if value is None else value
        params.tell(key, "one limit for all deployments of a name: the largest is taken")
        return max(already, value)

    # --- their servers

    def _provider(self, entry: Entry) -> str:
        server, base = entry.meant.server, entry.base
        if base is None and server.base is not None:
            base = self._variables.use(server.base)
        row: dict[str, Any] = {"type": server.type}
        if base is not None or server.base_url is not None:
            row["base_url"] = server.address(base) if base is not None else server.base_url
        if (key := self._key(entry.meant, entry.params)) is not None:
            row["api_key"] = key
        for name, known in self.providers.items():
            if known == row:
                return name
        number, name = 1, entry.meant.name
        while name in self.providers:
            number += 1
            name = f"{entry.meant.name}-{number}"
        self.providers[name] = row
        return name

    def _key(self, found: Meant, params: Section) -> str | None:
        text = params.text("api_key")
        if text is None:
            if found.server.base_url is None and found.server.type == COMPATIBLE and found.server.key is None:
                params.tell("model", f"no key is sent to `{found.name}`: give the provider its `api_key`", of="(key)")
            return self._variables.use(found.server.key) if found.server.key is not None else None
        variable = self._variables.reference(text)
        return variable or self._variables.secret(text, of=found.name, line=params.line("api_key"))


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile("(.*)".join(map(re.escape, name.split("*"))))
