"""Faults that only a look at several settings shows: names that lead nowhere, or that two things have."""

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

from narthex.core.errors import ConfigError, NarthexError
from narthex.engine.images.layout import INDEX
from narthex.engine.models.source import HubSource, parse, slug
from narthex.engine.models.store import ModelStore
from narthex.engine.speech.espeak import NAME as SPEECH
from narthex.engine.speech.espeak import OFF
from narthex.engine.speech.kokoro.calls import NAME as NEURAL
from narthex.serving.speech import no_kokoro, no_speech
from narthex.settings import Embedder, Engine, Reading, Settings, Speech
from narthex.settings.faults import Path as Place
from narthex.settings.faults import closest
from narthex.upstream.address import Address

LOCAL = "local"
"""The provider that this server's own models have."""

Found = Iterator[tuple[Place, str]]


def known_here(reading: Reading) -> set[str]:
    """The models of this server by name: those that are installed, and those that are fetched when it starts."""
    settings, content = reading.settings, reading.content
    if settings is not None:
        data, defaults = settings.data, {settings.engine.default, settings.embedder.default}
    else:
        given = content.get("data")
        data, defaults = Path(given if isinstance(given, str) else "narthex-data"), set()
        for branch, usual in (("engine", Engine().default), ("embedder", Embedder().default)):
            defaults.add(_map(content, branch).get("default", usual))
    return _installed(data) | {name for name in defaults if isinstance(name, str)}


def not_fetched(reading: Reading, data: Path) -> Found:
    """The default models that are not here: only a start fetches them."""
    if (settings := reading.settings) is not None:
        installed = _installed(data)
        for branch, name in (("engine", settings.engine.default), ("embedder", settings.embedder.default)):
            if name is not None and name not in installed:
                yield (branch, "default"), f"'{name}' is not installed; `narthex models pull {name}` does that"


def _installed(data: Path) -> set[str]:
    return {found.name for found in ModelStore(data / "models").installed()}


def faults_across(reading: Reading, installed: Iterable[str]) -> Found:
    """What is wrong between settings; `installed`: models that are here, or will be when the server starts.

    Where some settings are invalid, what can be told of the others is told all the same.
    """
    content = reading.content if reading.settings is None else _plain(reading.settings)
    providers, rows = _map(content, "providers"), content.get("models")
    configured = _map(_map(content, "engine"), "models")
    images = _map(_map(content, "engine"), "images")
    yield from _providers(providers)
    yield from _sources(configured)
    yield from _pipelines(images, installed=set(installed), others=set(configured))
    if reading.settings is not None or reading.is_all:
        local = {*installed, *(name for name, row in configured.items() if isinstance(row, dict))}
        if reading.settings is None:  # whatever is wrong with it, it is meant to be there
            local |= set(configured)
        local |= set(images)
        if _map(content, "speech").get("engine") not in (OFF, False):
            local.add(SPEECH)
        if _map(content, "speech").get("kokoro") is not None:
            local.add(NEURAL)
        yield from _Names(set(providers), local).faults(rows if isinstance(rows, list | tuple) else ())
    if reading.settings is not None:
        yield from _tls(reading.settings)
        yield from _speech(reading.settings.speech, others={*installed, *configured, *images})


class _Names:
    """Looks at the public models."""

    def __init__(self, providers: set[str], local: set[str]) -> None:
        self._providers = providers
        self._local = local

    def faults(self, rows: Iterable[Any]) -> Found:
        """What is wrong with their names, and with those of their deployments."""
        first: dict[str, int] = {}
        for index, row in enumerate(rows):
            if not isinstance(row, dict):
                continue
            name = row.get("name")
            if isinstance(name, str):
                yield from self._own(name, index, first)
            for place, target in _targets(row):
                if message := self._astray(target):
                    yield ("models", index, *place), message

    def _own(self, name: str, index: int, first: dict[str, int]) -> Found:
        if name in first:
            yield ("models", index, "name"), f"'{name}' is the name of models.{first[name]} already"
        elif name in self._local:
            yield ("models", index, "name"), f"'{name}' is the name of a model of this server"
        first.setdefault(name, index)

    def _astray(self, target: str) -> str:
        """Why a deployment's name leads nowhere; "" if it does not."""
        provider, _, model = target.partition("/")
        if provider == LOCAL:
            if model in self._local:
                return ""
            listed = ", ".join(sorted(self._local)) or "none"
            return f"there is no model '{model}' here{closest(model, self._local)}. Installed: {listed}"
        if provider not in self._providers:
            return f"there is no provider '{provider}'{closest(provider, (*self._providers, LOCAL))}"
        return "" if model else f"needs the name of a model: {provider}/<model>"


def _targets(row: Mapping[str, Any]) -> Iterator[tuple[Place, str]]:
    fallbacks = _map(row, "fallbacks")
    for place, listed in (
        (("deployments",), row.get("deployments")),
        (("fallbacks", "context_window"), fallbacks.get("context_window")),
        (("fallbacks", "content_filter"), fallbacks.get("content_filter")),
    ):
        for index, each in enumerate(listed if isinstance(listed, list | tuple) else ()):
            target, more = (each.get("to"), ("to",)) if isinstance(each, dict) else (each, ())
            if isinstance(target, str) and target:
                yield (*place, index, *more), target


def _providers(rows: Mapping[str, Any]) -> Found:
    for name, row in rows.items():
        if name == LOCAL:
            yield ("providers", name), "the name stands for this server's own models"
        elif not name or "/" in name:
            yield ("providers", name), "a name must not be empty, and have no slash"
        if not isinstance(row, dict):
            continue
        if isinstance(address := row.get("base_url"), str):
            try:
                Address.parse(address)
            except ConfigError as error:
                yield ("providers", name, "base_url"), error.message
        if isinstance(key := row.get("api_key"), str) and not (key.isascii() and key.isprintable()):
            yield ("providers", name, "api_key"), "a key has only printable ASCII characters"


def _sources(rows: Mapping[str, Any]) -> Found:
    for name, row in rows.items():
        if not isinstance(row, dict) or not isinstance(source := row.get("source"), str):
            continue
        try:
            parse(source)
        except NarthexError as error:
            yield ("engine", "models", name, "source"), error.message


def _pipelines(rows: Mapping[str, Any], *, installed: AbstractSet[str], others: AbstractSet[str]) -> Found:
    for name, row in rows.items():
        place = ("engine", "images", name)
        source = row.get("source") if isinstance(row, dict) else None
        if name in others or (name in installed and source is not None):
            yield place, f"'{name}' is the name of another model of this server"
        elif slug(name) != name:
            yield place, f"a name has only small letters, digits, '.', '_' and '-', such as '{slug(name)}'"
        elif isinstance(row, dict) and source is None and name not in installed:
            yield place, "no model of this name is installed: give its `source`"
        if isinstance(source, str) and (why := _no_pipeline(source)):
            yield (*place, "source"), why


def _no_pipeline(source: str) -> str:
    """Why a source leads to no pipeline; "" where it does, or where only the hub could tell."""
    if source.startswith("hf:"):
        try:
            found = parse(source)
        except NarthexError as error:
            return error.message
        return "" if isinstance(found, HubSource) and found.file is None else f"{source} names one file of a repository"
    folder = Path(source).expanduser()
    if (folder / INDEX).is_file():
        return ""
    return f"{source} is no folder of a pipeline: it {f'has no {INDEX}' if folder.is_dir() else 'is not there'}"


def _speech(part: Speech, *, others: AbstractSet[str]) -> Found:
    if why := no_speech(part.engine):
        yield ("speech", "engine"), why
    if part.kokoro is not None:
        yield from no_kokoro(part.kokoro, engine=part.engine, others=others)


def _tls(settings: Settings) -> Found:
    if settings.http.tls is not None:
        for name, path in settings.http.tls:
            if not Path(path).is_file():
                yield ("http", "tls", name), f"the TLS file {path} can't be read"


def _plain(settings: Settings) -> dict[str, Any]:
    content = settings.model_dump(include={"providers", "models", "engine", "speech"})
    for name, row in settings.providers.items():
        content["providers"][name]["api_key"] = row.api_key.get_secret_value() if row.api_key else None
    return content


def _map(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = content.get(name)
    return {str(key): item for key, item in value.items()} if isinstance(value, dict) else {}
