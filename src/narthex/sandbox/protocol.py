"""What the gateway and the sandbox say to each other."""

from typing import Any

import msgspec

from narthex.ipc.logs import LogFormat

NAME = "sandbox"
"""The child's name with the supervisor."""


class SandboxSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the child is started with. Limits hold for one job; the memory is the whole process's address space."""

    socket: str
    log_format: LogFormat = "auto"
    time_limit_s: float = 1.0
    memory_limit_bytes: int = 1024 * 1024 * 1024


class Render(msgspec.Struct, frozen=True, kw_only=True):
    """One template to render."""

    template: str
    variables: dict[str, Any]
