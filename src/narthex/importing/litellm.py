"""LiteLLM's proxy configuration, turned into ours.

Source: LiteLLM's page on its configuration's settings, November 2026. Every key of the file is either carried over or
told: `Section.rest` sees to those that nobody asked for.
"""

from typing import Any

from narthex.importing import litellm_entries
from narthex.importing import litellm_reasons as reasons
from narthex.importing.document import Section, read
from narthex.importing.litellm_models import ModelList
from narthex.importing.litellm_routing import Both, Tables, rules
from narthex.importing.rendering import Imported, notes
from narthex.importing.variables import Variables

SECTIONS = ("model_list", "litellm_settings", "router_settings", "general_settings")


def convert(text: str) -> Imported:
    """Ours of theirs. Reads and writes nothing.

    Raises:
        ConfigError: it is no YAML, or no configuration of LiteLLM.
    """
    top, account = read(text, sections=SECTIONS, what="LiteLLM configuration")
    variables = Variables(text)
    entries = [litellm_entries.read(section, variables) for section in top.sections("model_list")]
    models = ModelList([entry for entry in entries if entry is not None], variables)
    router, litellm = top.section("router_settings"), top.section("litellm_settings")
    both = Both(router, litellm)
    rows = Tables(models, rules(both), both).rows()
    settings: dict[str, Any] = {"engine": {"default": None}, "embedder": {"default": None}}
    http = _http(litellm, top.section("general_settings"))
    settings |= {"http": http} if http else {}
    if litellm is not None and litellm.flag("json_logs"):
        settings["log"] = {"format": "json"}
    settings |= {"providers": models.providers} if models.providers else {}
    settings |= {"models": rows} if rows else {}
    if router is not None:
        router.rest(reasons.ROUTER, reasons.OTHERWISE)
    if litellm is not None:
        litellm.rest(reasons.LITELLM, reasons.OTHERWISE)
    _environment(top.section("environment_variables"))
    top.rest(reasons.TOP, reasons.OTHERWISE)
    return Imported(
        settings=settings,
        notes=notes(variables, models.providers),
        told=tuple(sorted(account.told, key=lambda one: one.line)),
        carried=frozenset(account.carried),
    )


def _http(litellm: Section | None, general: Section | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if litellm is not None and litellm.flag("drop_params"):
        found["lenient"] = True
    if general is not None:
        megabytes = general.number("max_request_size_mb")
        if megabytes:
            found["body_limit_bytes"] = int(megabytes * 1024 * 1024)
        general.rest(reasons.GENERAL, reasons.OTHERWISE)
    return found


def _environment(section: Section | None) -> None:
    if section is not None:
        section.rest({}, reasons.TOP["environment_variables"])
