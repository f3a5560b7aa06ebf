"""LiteLLM's `model_list`: who may answer for each name, and the servers that they stand on.

Source: LiteLLM's pages on its proxy's configuration and on load balancing, November 2026.
"""

import re
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import msgspec

from narthex.core.errors import ConfigError
from narthex.importing.document import Section
from narthex.importing.litellm_reasons import ENTRY, OTHERWISE, PARAMS
from narthex.importing.litellm_servers import COMPATIBLE, Meant, meant
from narthex.importing.variables import Variables
from narthex.upstream.address import Address

_MODES = frozenset(("chat", "completion", "embedding", "image_generation", "responses"))


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
    """The groups by name, and the providers' rows by name, as entry after entry is added."""

    def __init__(self, variables: Variables) -> None:
        self.groups: dict[str, Group] = {}
        self.providers: dict[str, dict[str, Any]] = {}
        self._wildcards: list[tuple[str, str]] = []
        self._variables = variables

    def add(self, entry: Section) -> None:
        """One entry of the list."""
        name, params = entry.text("model_name"), entry.section("litellm_params")
        model = params.text("model") if params is not None else None
        if name is None or params is None or model is None:
            entry.tell_all("it needs a `model_name`, and `litellm_params` with a `model`")
            return
        try:
            base = self._base(params)
        except ConfigError:
            entry.tell_all("its `api_base` is no address that can be used")
            return
        found = meant(model, kind=params.text("custom_llm_provider"), base=base)
        info = entry.section("model_info")
        mode = (info.text("mode") if info is not None else None) or "chat"
        if mode not in _MODES:
            found = "models of that `mode` are not served"
        if isinstance(found, str):
            entry.tell_all(found)
            return
        if found.model == model and "/" in model and "custom_llm_provider" not in params:
            params.tell("model", "its prefix is none that is known: it is taken for a part of the name", of="(prefix)")
        provider = self._provider(found, base, params)
        if "*" in model or ("*" in name and name != "*"):
            entry.tell(
                "model_name", f"no name stands for many: give each a row under `models`, as `{provider}/<model>`"
            )
            self._wildcards.append((name, f"{provider}/{found.model}"))
            self._wildcards.sort(key=lambda wildcard: len(wildcard[0]), reverse=True)
            params.rest(PARAMS, "it is for the rows of its names")
        else:
            self._deploy(name, f"{provider}/{found.model}", params)
            params.rest(PARAMS, OTHERWISE)
        if info is not None:
            info.rest({}, ENTRY["model_info"])
        entry.rest(ENTRY, OTHERWISE)

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

    def _base(self, params: Section) -> str | None:
        """The address as it stands there, or `${NAME}`; without a slash at its end, and without secrets in it.

        Raises:
            ConfigError: what stands there is none.
        """
        key = "api_base" if "api_base" in params else "base_url"
        given, text = params.value(key), params.text(key)
        if not given:
            return None
        if (variable := self._variables.reference(text or "")) is not None:
            return variable
        try:
            parts = urlsplit((text or "").strip())
        except ValueError:
            raise ConfigError("The address of a model's server can't be read.") from None
        if parts.query or parts.username or parts.fragment:
            params.tell(key, "what stands before the host or behind the path is not taken over", of="(parts)")
        bare = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))
        Address.parse(bare)
        return bare

    def _provider(self, found: Meant, base: str | None, params: Section) -> str:
        server = found.server
        if base is not None and not server.own_address:
            params.tell("api_base" if "api_base" in params else "base_url", "it is not an address of OpenAI's format")
            base = None
        if base is None and server.base is not None:
            base = self._variables.use(server.base)
        row: dict[str, Any] = {"type": server.type}
        if base is not None or server.base_url is not None:
            row["base_url"] = server.address(base) if base is not None else server.base_url
        if (key := self._key(found, params)) is not None:
            row["api_key"] = key
        for name, known in self.providers.items():
            if known == row:
                return name
        number, name = 1, found.name
        while name in self.providers:
            number += 1
            name = f"{found.name}-{number}"
        self.providers[name] = row
        return name

    def _key(self, found: Meant, params: Section) -> str | None:
        text = params.text("api_key")
        if text is None:
            if found.server.base_url is None and found.server.type == COMPATIBLE and found.server.key is None:
                params.tell("model", f"no key is sent to `{found.name}`: give the provider its `api_key`", of="(key)")
            return self._variables.use(found.server.key) if found.server.key is not None else None
        variable = self._variables.reference(text)
        return variable or self._variables.secret(text, of=found.name, where=f"{params.path}.api_key")


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile("(.*)".join(map(re.escape, name.split("*"))))
