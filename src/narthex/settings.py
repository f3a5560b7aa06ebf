"""The settings tree, and the only reader of environment and configuration files.

Read in this order, later wins: defaults, the YAML file, `NARTHEX_*` (nested names by `__`), the command line.
`${NAME}` in the file stands for an environment variable.
"""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, SecretStr
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)
from typing_extensions import override

from narthex.core.errors import ConfigError
from narthex.dialects import openai_chat, openai_completions, openai_embeddings, openai_images
from narthex.providers.presets import PRESETS
from narthex.providers.traits import MaxTokensField

DEFAULT_FILE = Path("narthex.yaml")
GIB = 1024**3


class Part(BaseModel):
    """A branch of the tree."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Tls(Part):
    """Serving over TLS."""

    cert: Path = Field(description="Certificate chain, PEM.")
    key: Path = Field(description="Private key, PEM.")


class Http(Part):
    """The HTTP side."""

    allowed_hosts: tuple[str, ...] = Field(
        ("localhost", "127.0.0.1", "[::1]"),
        description="Host names to answer to (against DNS rebinding); '*' for all. The listening host is added.",
    )
    trusted_proxies: tuple[str, ...] = Field((), description="Addresses whose X-Forwarded-* headers are believed.")
    body_limit_bytes: PositiveInt = Field(16 * 1024 * 1024, description="The largest request body.")
    total_s: PositiveFloat = Field(590.0, description="The longest that one request may take, all attempts together.")
    drain_s: PositiveFloat = Field(30.0, description="How long running requests may go on after a stop was asked for.")
    profile: Literal["openai", "thyris", "ionos", "oxy"] = Field(
        "openai", description="The shape of a 401 where no key is known."
    )
    lenient: bool = Field(
        default=False, description="Drop unknown request fields (and name them) instead of refusing them."
    )
    tls: Tls | None = Field(None, description="Certificate and key; none: plain HTTP.")


class LocalModel(Part):
    """A model of the embedded engine, besides those that are installed."""

    source: str | None = Field(None, description="A GGUF file's path, or hf:owner/repo[/file.gguf][@revision].")
    url: str | None = Field(None, description="A running llama-server instead of an engine of our own.")
    slots: PositiveInt = Field(4, description="Of a `url`: how many requests that server runs at a time.")
    context: PositiveInt | None = Field(
        None, description="Tokens of one request, prompt and answer; none: the model's."
    )
    threads: PositiveInt | None = Field(None, description="Threads; none: one for each core.")
    gpu_layers: int = Field(0, ge=0, description="Layers to put on a GPU.")

    @pydantic.model_validator(mode="after")
    def _one_origin(self) -> "LocalModel":
        if self.source is not None and self.url is not None:
            raise ValueError("give `source` or `url`, not both")
        return self


class Engine(Part):
    """The embedded engine."""

    models: dict[str, LocalModel] = Field({}, description="Models by name; an installed model's name overrides it.")
    default: str | None = Field(
        "smollm2-135m-instruct", description="The catalogue's chat model that is fetched and kept loaded; none: none."
    )
    slots: PositiveInt | None = Field(None, description="Requests that run at a time; none: by memory and cores.")
    batch: PositiveInt | None = Field(None, description="Prompt tokens read at a time; none: by cores.")
    context: PositiveInt | None = Field(None, description="As in `models`, for all of them.")
    threads: PositiveInt | None = Field(None, description="As in `models`, for all of them.")
    memory_bytes: PositiveInt | None = Field(None, description="For all loaded models; none: half of the machine's.")
    idle_unload_s: PositiveFloat = Field(900.0, description="A model that nobody used for so long is unloaded.")
    cache_tokens: int = Field(4096, ge=0, description="Prompt tokens kept for an account's next request.")
    share_prefix_cache: bool = Field(
        default=False, description="Share kept prompts between accounts (tells who asked what)."
    )
    max_waiting: PositiveInt = Field(256, description="Requests that may wait for a slot.")
    max_waiting_per_key: PositiveInt = Field(64, description="The same, of one key.")
    deterministic: bool = Field(default=False, description="Serve seeded requests alone, so that they repeat exactly.")


class Embedder(Part):
    """The embedded embedding model."""

    default: str | None = Field("all-minilm-l6-v2", description="The catalogue's model that is fetched; none: none.")
    threads: int = Field(0, ge=0, description="Threads; 0: one for each core.")


_DIALECTS = (openai_chat, openai_completions, openai_embeddings, openai_images)
_COMPATIBLE = "openai-compatible"


class ProviderModel(Part):
    """What one model of a provider can do, where that differs from what the provider's type says; none: it doesn't."""

    max_tokens_field: MaxTokensField | None = Field(
        None, description="The only name by which it takes the limit of an answer."
    )
    refused: tuple[str, ...] = Field((), description="Request fields that it can't honour.")
    developer: bool | None = Field(None, description="It knows the role developer; without: sent as system.")
    functions: bool | None = Field(None, description="It knows the older functions; without: sent as tools.")
    prefill: bool | None = Field(None, description="It continues a trailing assistant message, where that is a choice.")
    reasoning: bool | None = Field(
        None,
        description="true: it thinks first, and takes no sampling fields; false: it takes no `reasoning_effort`.",
    )
    answer_tokens: PositiveInt | None = Field(
        None, description="The limit of answers whose caller set none, where the server must be told one (anthropic)."
    )
    json_schema: bool | None = Field(
        None, description="Its answers can be held to a schema (anthropic; elsewhere it is known)."
    )
    adaptive: bool | None = Field(None, description="It thinks by effort and not by a budget (anthropic).")

    @pydantic.field_validator("refused")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := set(value).difference(*(dialect.FORM.known for dialect in _DIALECTS)):
            raise ValueError(f"there is no request field '{min(unknown)}'")
        return value

    def given(self) -> dict[str, Any]:
        """What the configuration says, by the names of `ModelTraits`."""
        told = self.model_dump(exclude_none=True, exclude_defaults=True)
        return told | ({"refused": frozenset(self.refused)} if self.refused else {})


class Provider(Part):
    """A server of models elsewhere."""

    type: str = Field(_COMPATIBLE, description=f"What it is: {', '.join(PRESETS)}.")
    base_url: str | None = Field(
        None,
        description="Where it is, up to and with its version: https://host/v1, unix:/path.sock; none: the type's own.",
    )
    api_key: SecretStr | None = Field(None, description="Its key; write ${NAME} to take it from the environment.")
    first_token_s: PositiveFloat | None = Field(None, description="The longest wait for the first output.")
    idle_s: PositiveFloat | None = Field(60.0, description="The longest silence within an answer.")
    models: dict[str, ProviderModel] = Field({}, description="Models that differ from others of this type, by name.")

    @pydantic.model_validator(mode="after")
    def _located(self) -> "Provider":
        if self.type not in PRESETS:
            raise ValueError(f"there is no provider type '{self.type[:100]}'; there are {', '.join(PRESETS)}")
        if not self.base_url and PRESETS[self.type].base_url is None:
            raise ValueError(f"providers of the type '{self.type}' need a `base_url`")
        return self


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
    attempt: Seconds | None = Field(None, description="One attempt in all; none: as long as the request may take.")
    total: Seconds | None = Field(None, description="The request with all its attempts; none: `http.total_s`.")


class Retry(Part):
    """What happens when an attempt fails before its first output."""

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

    @property
    def rows(self) -> tuple[Weighted, ...]:
        """The deployments, each with its weight."""
        return tuple(Weighted(to=each, weight=1.0) if isinstance(each, str) else each for each in self.deployments)

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


class Log(Part):
    """Logging."""

    format: Literal["auto", "json", "console"] = Field("auto", description="auto: JSON unless on a terminal.")


class Settings(BaseSettings):
    """All settings of one server."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix="NARTHEX_",
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
    )

    host: str = Field("127.0.0.1", description="The address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="The port; 0: a free one.")
    data: Path = Field(Path("narthex-data"), description="The data folder.")
    workers: PositiveInt = Field(1, description="Worker processes.")
    http: Http = Field(Http(), description="The HTTP side.")
    engine: Engine = Field(Engine(), description="The embedded engine.")
    embedder: Embedder = Field(Embedder(), description="The embedded embedding model.")
    providers: dict[str, Provider] = Field({}, description="Servers of models elsewhere, by name.")
    models: tuple[PublicModel, ...] = Field((), description="Names that callers ask for, besides the models' own.")
    log: Log = Field(Log(), description="Logging.")


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
        if any(variable.upper().startswith(f"{prefix}{name.upper()}") for variable in os.environ):
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
        if match[1] not in os.environ:
            raise ConfigError(f"{path} uses ${{{match[1]}}}, but that environment variable is not set.")
        return os.environ[match[1]]

    return re.sub(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", variable, value)


def _described(error: pydantic.ValidationError) -> str:
    """Every fault on a line of its own. The values are left out: they may be secrets."""
    lines = ["The configuration is invalid:"]
    for fault in error.errors(include_url=False, include_input=False, include_context=False):
        where = ".".join(map(str, fault["loc"])) or "(whole)"
        lines.append(f"  {where}: {fault['msg']}")
    return "\n".join(lines)
