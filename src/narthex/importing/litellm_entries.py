"""One entry of LiteLLM's `model_list`, as far as it can be understood by itself."""

from urllib.parse import urlsplit, urlunsplit

import msgspec

from narthex.core.errors import ConfigError
from narthex.importing.document import Section
from narthex.importing.litellm_reasons import ENTRY, OTHERWISE, PARAMS
from narthex.importing.litellm_servers import Meant, meant
from narthex.importing.variables import Variables
from narthex.upstream.address import Address

_MODES = frozenset(("chat", "completion", "embedding", "image_generation", "responses"))


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A name, the server that answers for it, and what else is said of it. `base`: its address; None: its kind's."""

    name: str
    meant: Meant
    base: str | None
    params: Section
    section: Section

    @property
    def of_many(self) -> bool:
        """Whether the name, or the model's, stands for many."""
        return "*" in self.meant.model or ("*" in self.name and self.name != "*")

    def close(self, why: str = OTHERWISE) -> None:
        """Tell of all that was not asked for."""
        self.params.rest(PARAMS, why)
        if (info := self.section.section("model_info")) is not None:
            info.value("mode")
            info.rest({}, ENTRY["model_info"])
        self.section.rest(ENTRY, OTHERWISE)


def read(section: Section, variables: Variables) -> Entry | None:
    """An entry; None where nothing can be made of it, which is told."""
    name, params = section.text("model_name"), section.section("litellm_params")
    model = params.text("model") if params is not None else None
    if name is None or params is None or model is None:
        section.tell_all("it needs a `model_name`, and `litellm_params` with a `model`")
        return None
    try:
        base = _base(params, variables)
    except ConfigError:
        section.tell_all("its `api_base` is no address that can be used")
        return None
    found = meant(model, kind=params.text("custom_llm_provider"), base=base)
    info = section.section("model_info")
    if info is not None and (info.text("mode") or "chat") not in _MODES:
        found = "models of that `mode` are not served"
    if isinstance(found, str):
        section.tell_all(found)
        return None
    if found.model == model and "/" in model and "custom_llm_provider" not in params:
        params.tell("model", "its prefix is none that is known: it is taken for a part of the name", of="(prefix)")
    if base is not None and not found.server.own_address:
        params.tell("api_base" if "api_base" in params else "base_url", "it is not an address of OpenAI's format")
        base = None
    return Entry(name=name, meant=found, base=base, params=params, section=section)


def _base(params: Section, variables: Variables) -> str | None:
    """The address as it stands there, or `${NAME}`; without a slash at its end, and without secrets in it.

    Raises:
        ConfigError: what stands there is none.
    """
    key = "api_base" if "api_base" in params else "base_url"
    given, text = params.value(key), params.text(key)
    if not given:
        return None
    if (variable := variables.reference(text or "")) is not None:
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
