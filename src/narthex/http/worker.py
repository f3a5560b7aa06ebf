"""What a worker is told when it starts."""

import msgspec

from narthex.engine.served import ServedModel
from narthex.ipc.logs import LogFormat


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """All that a worker is told. `names` maps further public names to deployments, in order of preference."""

    name: str
    data_dir: str
    run_dir: str
    models: tuple[ServedModel, ...]
    names: dict[str, tuple[str, ...]] = {}
    allowed_hosts: tuple[str, ...] = ("*",)
    trusted_proxies: tuple[str, ...] = ()
    body_limit_bytes: int = 16 * 1024 * 1024
    total_s: float = 590.0
    drain_s: float = 30.0
    profile: str = "openai"
    lenient: bool = False
    share_prefix_cache: bool = False
    tls_cert: str | None = None
    tls_key: str | None = None
    log_format: LogFormat = "auto"
