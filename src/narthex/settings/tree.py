"""The whole tree."""

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt
from pydantic_settings import BaseSettings, SettingsConfigDict

from narthex.settings.egress import Egress
from narthex.settings.engine import Embedder, Engine
from narthex.settings.files import Files
from narthex.settings.part import Part
from narthex.settings.providers import Provider
from narthex.settings.public import PublicModel
from narthex.settings.speech import Speech
from narthex.settings.stored import Stored


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
    upload_limit_bytes: PositiveInt = Field(
        256 * 1024 * 1024, description="The largest body of an upload of files to a collection."
    )
    total_s: PositiveFloat = Field(590.0, description="The longest that one request may take, all attempts together.")
    drain_s: PositiveFloat = Field(30.0, description="How long running requests may go on after a stop was asked for.")
    profile: Literal["openai", "thyris", "ionos", "oxy"] = Field(
        "openai",
        description="What keys have that have no profile of their own, and the shape of a 401 where no key is known.",
    )
    lenient: bool = Field(
        default=False, description="Drop unknown request fields (and name them) instead of refusing them."
    )
    tls: Tls | None = Field(None, description="Certificate and key; none: plain HTTP.")


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
    egress: Egress = Field(Egress(), description="What is fetched for callers.")
    files: Files = Field(Files(), description="Reading files.")
    speech: Speech = Field(Speech(), description="Texts that are read aloud here.")
    stored: Stored = Field(Stored(), description="Chat completions that callers store.")
    log: Log = Field(Log(), description="Logging.")
