"""What a worker is told when it starts."""

import hashlib

import msgspec
from typing_extensions import override

from narthex.core.keys import Profile
from narthex.engine.served import ServedModel
from narthex.engine.speech.espeak import SpeechEngine
from narthex.ipc.logs import LogFormat
from narthex.providers.traits import ModelTraits
from narthex.routing.route import Named
from narthex.upstream.egress import Egress


class RemoteProvider(msgspec.Struct, frozen=True, kw_only=True):
    """A server of models elsewhere. `type` names a preset; `models` are those that differ from what it says of them.

    `api_key` is a secret: this value is never logged. `extra_params`, `extra_headers`: see `ModelTraits`.
    """

    type: str
    base_url: str
    models: dict[str, ModelTraits] = {}
    api_key: str | None = None
    first_token_s: float | None = None
    idle_s: float | None = None
    extra_params: frozenset[str] = frozenset()
    extra_headers: frozenset[str] = frozenset()

    @override
    def __repr__(self) -> str:
        return f"RemoteProvider({self.type!r}, ***)"


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """All that a worker is told. `names`: further public names, and who answers for each.

    `control_socket`: where it answers its supervisor.
    """

    name: str
    data_dir: str
    run_dir: str
    control_socket: str = ""
    models: tuple[ServedModel, ...]
    names: dict[str, Named] = {}
    providers: dict[str, RemoteProvider] = {}
    egress: Egress = Egress()
    speech: SpeechEngine | None = None
    speech_kept_s: float = 3600.0
    allowed_hosts: tuple[str, ...] = ("*",)
    trusted_proxies: tuple[str, ...] = ()
    body_limit_bytes: int = 16 * 1024 * 1024
    upload_limit_bytes: int = 256 * 1024 * 1024
    stored_kept_s: float = 30 * 86_400.0
    stored_max_bytes: int = 10 * 1024**3
    total_s: float = 590.0
    drain_s: float = 30.0
    profile: Profile = "openai"
    lenient: bool = False
    share_prefix_cache: bool = False
    tls_cert: str | None = None
    tls_key: str | None = None
    log_format: LogFormat = "auto"

    @property
    def digest(self) -> str:
        """By which processes know whether they work by the same settings, whatever they themselves are called."""
        bare = msgspec.structs.replace(self, name="", control_socket="")
        return hashlib.sha256(msgspec.json.encode(bare, order="deterministic")).hexdigest()
