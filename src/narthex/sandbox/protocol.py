"""What the gateway and its two sandboxes say to each other."""

import hashlib
from pathlib import Path
from typing import Any, Final

import msgspec

from narthex.ipc.logs import LogFormat

NAME: Final = "sandbox"
"""The child that renders templates, by its name with the supervisor."""
COMPILER: Final = "compiler"
"""The child that compiles schemas: another one, so that no schema keeps templates waiting."""


class SandboxSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What either child is started with. Time is for one job; the memory is the whole process's address space."""

    socket: str
    log_format: LogFormat = "auto"
    time_limit_s: float = 1.0
    memory_limit_bytes: int = 1024 * 1024 * 1024


class Render(msgspec.Struct, frozen=True, kw_only=True):
    """One template to render."""

    template: str
    variables: dict[str, Any]


class Compile(msgspec.Struct, frozen=True, kw_only=True):
    """One schema to compile."""

    schema: bytes


class Compiled(msgspec.Struct, frozen=True, kw_only=True):
    """What became of it: a rule, or why not, and at which place in it (empty: as a whole)."""

    rule: str = ""
    refusal: str = ""
    at: str = ""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One finished text to check by a schema."""

    schema: bytes
    text: str


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with the text, if anything; or why the schema can't be read."""

    fault: str | None = None
    refusal: str = ""
    at: str = ""


def job_name(schema: bytes, text: str = "") -> str:
    """What a job is known by, on both sides."""
    return hashlib.sha256(b"%d:%b%b" % (len(schema), schema, text.encode())).hexdigest()


def job_file(socket: Path) -> Path:
    """Where the compiler notes the job that it begins: whose job ended it is read there."""
    return socket.with_suffix(".job")
