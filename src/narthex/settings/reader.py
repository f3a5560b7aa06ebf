"""The only reader of environment and configuration files."""

import os
import re
from pathlib import Path
from typing import Any

import pydantic
import yaml
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsError
from typing_extensions import override

from narthex.core.errors import ConfigError
from narthex.settings.tree import Settings

DEFAULT_FILE = Path("narthex.yaml")
_ENVIRONMENT = os.environ  # noqa: TID251 - the only place that reads it


def load(file: Path | None = None, **given: Any) -> Settings:
    """All settings, checked whole. `given` (from the command line) wins; its None values count as not given.

    Raises:
        ConfigError: lists every setting that is wrong, with what is wrong about it.
    """
    content = _read(file)

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
            return init_settings, env_settings, InitSettingsSource(settings_cls, init_kwargs=content)

    try:
        return WithFile(**{name: value for name, value in given.items() if value is not None})
    except pydantic.ValidationError as error:
        raise ConfigError(_described(error)) from None
    except SettingsError as error:
        raise ConfigError(f"The environment holds a setting that can't be read: {error}") from None


def origins(settings: Settings, file: Path | None) -> dict[str, str]:
    """Where each top-level setting's value comes from, for `config show`."""
    content = _read(file)
    prefix = "NARTHEX_"
    found = {}
    for name in type(settings).model_fields:
        if any(variable.upper().startswith(f"{prefix}{name.upper()}") for variable in _ENVIRONMENT):
            found[name] = "environment"
        elif name in content:
            found[name] = str(file or DEFAULT_FILE)
        else:
            found[name] = "default"
    return found


def _read(file: Path | None) -> dict[str, Any]:
    path = file or DEFAULT_FILE
    if file is None and not path.exists():
        return {}
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold a map of settings.")
    expanded: dict[str, Any] = _expand(content, path)
    return expanded


def _expand(value: Any, path: Path) -> Any:
    """Put environment variables where `${NAME}` stands."""
    if isinstance(value, dict):
        return {name: _expand(item, path) for name, item in value.items()}
    if isinstance(value, list):
        return [_expand(item, path) for item in value]
    if not isinstance(value, str):
        return value

    def variable(match: re.Match[str]) -> str:
        if match[1] not in _ENVIRONMENT:
            raise ConfigError(f"{path} uses ${{{match[1]}}}, but that environment variable is not set.")
        return _ENVIRONMENT[match[1]]

    return re.sub(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", variable, value)


def _described(error: pydantic.ValidationError) -> str:
    """Every fault on a line of its own. The values are left out: they may be secrets."""
    lines = ["The configuration is invalid:"]
    for fault in error.errors(include_url=False, include_input=False, include_context=False):
        where = ".".join(map(str, fault["loc"])) or "(whole)"
        lines.append(f"  {where}: {fault['msg']}")
    return "\n".join(lines)
