"""What the gateway and its two sandboxes say to each other."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from narthex.core.constrained import ChoiceFormat, Constraint, GrammarFormat, JsonFormat, RegexFormat
from narthex.ipc.logs import LogFormat

NAME: Final = "sandbox"
"""The child that renders templates, by its name with the supervisor."""
COMPILER: Final = "compiler"
"""The child that compiles constraints: another one, so that none keeps templates waiting."""


NAMES: Final[Mapping[type[Constraint], str]] = {
    JsonFormat: "schema",
    RegexFormat: "regular expression",
    ChoiceFormat: "list of choices",
    GrammarFormat: "grammar",
}
"""What refusals call each constraint."""


SPACING: Final = "\0"
"""The place of a refusal that is not in the schema, but in the pattern for its white space."""


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


class RenderBrought(Render, frozen=True, kw_only=True):
    """One template of a caller's, whose text may have so many characters."""

    most_chars: int


class Compile(msgspec.Struct, frozen=True, kw_only=True):
    """One constraint to compile. Its path is of no account here."""

    constraint: Constraint


class Compiled(msgspec.Struct, frozen=True, kw_only=True):
    """What became of it: a rule, or why not, and at which place in it (empty: as a whole)."""

    rule: str = ""
    refusal: str = ""
    at: str = ""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One finished text to check by a constraint; one that was `cut` needs only be a beginning."""

    constraint: Constraint
    text: str
    cut: bool = False


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with the text, if anything; or why the constraint can't be read."""

    fault: str | None = None
    refusal: str = ""
    at: str = ""


def job_name(constraint: Constraint, text: str = "") -> str:
    """What a job is known by, on both sides."""
    told = msgspec.msgpack.encode(constraint)
    return hashlib.sha256(b"%d:%b%b" % (len(told), told, text.encode())).hexdigest()


def job_file(socket: Path) -> Path:
    """Where the compiler notes the job that it begins: whose job ended it is read there."""
    return socket.with_suffix(".job")
