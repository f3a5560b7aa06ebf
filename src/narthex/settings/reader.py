"""The only reader of environment and configuration files."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pydantic
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsError
from typing_extensions import override

from narthex.settings import faults
from narthex.settings.faults import Fault, Invalid
from narthex.settings.source import Source
from narthex.settings.tree import Settings

DEFAULT_FILE = Path("narthex.yaml")

_ENVIRONMENT = os.environ  # noqa: TID251 - the only place that reads it
_PREFIX = "NARTHEX_"


class Reading:
    """What came of reading all settings: the tree, if it could be built, and every fault that was found.

    `content`: the file's, also where the tree could not be built. `is_all`: nothing but the file says anything.
    """

    def __init__(self, settings: Settings | None, source: Source, found: Iterable[Fault]) -> None:
        self.settings = settings
        self.content = source.content
        self.faults = list(found)
        self.is_all = not any(name.upper().startswith(_PREFIX) for name in _ENVIRONMENT)
        self._source = source

    def add(self, found: Iterable[tuple[faults.Path, str]]) -> None:
        """Add faults that only a look at several settings shows, by their places; none where the file is not known."""
        if not self._source.is_lost:
            self.faults += [self._source.fault(*each) for each in found if not self._source.excuses(each[0])]

    def checked(self) -> Settings:
        """The settings, if nothing is wrong with them.

        Raises:
            Invalid: lists every fault.
        """
        if self.faults or self.settings is None:
            raise Invalid(self.faults)
        return self.settings


def read(file: Path | None = None, **given: Any) -> Reading:
    """Read all settings. `given` (from the command line) wins; its None values count as not given."""
    path = file or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)
    source = Source(path, _ENVIRONMENT)

    class WithFile(Settings):
        @classmethod
        @override
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, InitSettingsSource(settings_cls, init_kwargs=source.content)

    settings, told = None, []
    try:
        settings = WithFile(**{name: value for name, value in given.items() if value is not None})
    except pydantic.ValidationError as error:
        told = [source.fault(*each) for each in faults.told(error, Settings) if not source.excuses(each[0])]
    except SettingsError as error:
        told = [Fault(path="", message=f"The environment holds a setting that can't be read: {error}")]
    return Reading(settings, source, [*source.faults, *told])


def load(file: Path | None = None, **given: Any) -> Settings:
    """All settings, each checked by itself. `given`: as for `read`.

    Raises:
        Invalid: lists every setting that is wrong, with its place and what is wrong about it.
    """
    return read(file, **given).checked()


def origins(settings: Settings, file: Path | None) -> dict[str, str]:
    """Where each top-level setting's value comes from, for `config show`."""
    path = file or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)
    content = Source(path, _ENVIRONMENT).content
    found = {}
    for name in type(settings).model_fields:
        if any(variable.upper().startswith(f"{_PREFIX}{name.upper()}") for variable in _ENVIRONMENT):
            found[name] = "environment"
        elif name in content:
            found[name] = str(path)
        else:
            found[name] = "default"
    return found
