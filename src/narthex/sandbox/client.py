"""Asks the sandboxes; starts each when it isn't there."""

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from narthex.core.constrained import INVALID_SCHEMA, MAX_SCHEMA_BYTES, ChoiceFormat, Constraint, JsonFormat
from narthex.core.errors import EngineCrashed, EngineUnavailable, InvalidRequest
from narthex.core.ports import Ensure
from narthex.ipc.client import Client
from narthex.ipc.fairness import FairTurns
from narthex.sandbox.choices import fault_of_choice
from narthex.sandbox.protocol import (
    COMPILER,
    NAME,
    NAMES,
    SPACING,
    Check,
    Checked,
    Compile,
    Compiled,
    job_file,
    job_name,
)

T = TypeVar("T")
Told = TypeVar("Told", Compiled, Checked)

TIMEOUT_S = 10.0
"""For one job and those before it; a job itself has a tighter limit over there."""
_PAUSES_S = (0.0, 0.02, 0.2)
"""Before the process is asked for again. We may see that one has ended before the supervisor does."""
_AGAIN_S = (0.0, 0.05, 0.5)
"""Before a job is begun that something else may end. A process that was forked under one that ends has its socket until
it first runs, and whoever connects to that finds it ended, too.
"""
AT_ONCE_S = 0.5
"""A compiler that ends sooner under a job gets it a second time: something else may have ended it."""
CACHED_RULES = 512
CACHED_BYTES = 16 * 1024 * 1024


class _Sandbox:
    """One sandbox process. Close the connection with `aclose`."""

    def __init__(self, socket: Path, *, child: str, ensure: Ensure) -> None:
        self._client = Client(socket, name=child)
        self._child = child
        self._ensure = ensure

    async def _ask(self, operation: str, payload: Any, answer: type[T]) -> T:
        """Call, and start the process if it does not run. Raises `EngineCrashed` when it ends under our job, which is
        not asked again: the job may be what ended it.
        """
        for pause_s in _PAUSES_S:
            began = time.monotonic()
            try:
                return await self._client.call(operation, payload, answer, timeout_s=TIMEOUT_S)
            except EngineUnavailable:
                if time.monotonic() - began >= TIMEOUT_S:
                    raise
            await asyncio.sleep(pause_s)
            await self._ensure(self._child)
        return await self._client.call(operation, payload, answer, timeout_s=TIMEOUT_S)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._client.aclose()


class SandboxTemplates(_Sandbox):
    """`Templates`, rendered in the sandbox process. Close it with `aclose`."""

    def __init__(self, socket: Path, *, ensure: Ensure) -> None:
        super().__init__(socket, child=NAME, ensure=ensure)

    async def render(self, template: str, variables: Mapping[str, Any]) -> str:
        """See `Templates.render`."""
        try:
            return await self._ask("render", {"template": template, "variables": dict(variables)}, str)
        except EngineCrashed:
            raise EngineUnavailable("The sandbox ended while it rendered the chat template.", retry_after_s=1) from None

    async def render_brought(self, template: str, variables: Mapping[str, Any], *, most_chars: int) -> str:
        """See `Templates.render_brought`. None of these ends the sandbox: if something else does, another gets it."""
        job = {"template": template, "variables": dict(variables), "most_chars": most_chars}
        for pause_s in _AGAIN_S:
            await asyncio.sleep(pause_s)
            with contextlib.suppress(EngineCrashed):
                return await self._ask("render_brought", job, str)
        raise EngineUnavailable("The sandbox ended while it rendered the chat template.", retry_after_s=1)


class SandboxGrammars(_Sandbox):
    """`Grammars`, compiled and checked in the compiler process. Close it with `aclose`.

    What became of a schema is kept, refusals too: the least recently used go first. Jobs go over one at a time, owners
    in turn, and those that another's job cost are done again: a schema that ends the process is an error for its own
    caller only.
    """

    def __init__(self, socket: Path, *, ensure: Ensure) -> None:
        super().__init__(socket, child=COMPILER, ensure=ensure)
        self._note = job_file(socket)
        self._turns = FairTurns()
        self._kept: OrderedDict[str, Compiled] = OrderedDict()
        self._kept_bytes = 0
        self._compiling: dict[tuple[str, str], asyncio.Event] = {}

    def of(self, owner: str) -> "OwnedGrammars":
        """See `Grammars.of`."""
        return OwnedGrammars(self, owner)

    async def rule(self, schema: bytes, *, path: str) -> str:
        """See `Grammars.rule`."""
        return await self.of("").rule(schema, path=path)

    async def fault(self, schema: bytes, text: str) -> str | None:
        """See `Grammars.fault`."""
        return await self.of("").fault(schema, text)

    async def rule_of(self, constraint: Constraint, *, owner: str = "") -> str:
        """See `Grammars.rule_of`."""
        if isinstance(constraint, JsonFormat) and len(constraint.schema) > MAX_SCHEMA_BYTES:
            message = f"The schema is larger than {MAX_SCHEMA_BYTES // 1024} KiB."
            raise InvalidRequest(message, param=constraint.path, code=INVALID_SCHEMA)
        bare = _bare(constraint)
        name = job_name(bare)
        while (running := self._compiling.get((owner, name))) is not None:
            await running.wait()  # if whoever compiles it gives up, the next one does
        compiled = self._known(name) or await self._compile(name, bare, owner=owner)
        if compiled.refusal:
            raise _refusal(compiled, constraint)
        return compiled.rule

    async def fault_of(self, constraint: Constraint, text: str, *, cut: bool = False, owner: str = "") -> str | None:
        """See `Grammars.fault_of`."""
        if isinstance(constraint, ChoiceFormat):
            return fault_of_choice(constraint, text, cut=cut)
        bare = _bare(constraint)
        job = Check(constraint=bare, text=text, cut=cut)
        async with self._turns.turn(owner):
            checked = await self._alone("check", job, Checked, name=job_name(bare, text))
        if checked.refusal:
            raise _refusal(checked, bare)
        return checked.fault

    async def _compile(self, name: str, bare: Constraint, *, owner: str) -> Compiled:
        done = self._compiling[owner, name] = asyncio.Event()
        try:
            async with self._turns.turn(owner):
                compiled = self._known(name)  # another owner's turn may have come before
                if compiled is None:
                    compiled = await self._alone("compile", Compile(constraint=bare), Compiled, name=name)
                    self._keep(name, compiled)
        finally:
            del self._compiling[owner, name]
            done.set()
        return compiled

    async def _alone(self, operation: str, payload: Compile | Check, answer: type[Told], *, name: str) -> Told:
        """Ask, in one's turn; a job that ends the process is refused.

        Raises:
            EngineUnavailable: others' jobs ended it, or it can't be started.
        """
        for pause_s in _AGAIN_S:
            await asyncio.sleep(pause_s)
            began = time.monotonic()
            try:
                return await self._ask(operation, payload, answer)
            except EngineCrashed:
                if await asyncio.to_thread(self._begun) != name:
                    continue
                if pause_s or time.monotonic() - began > AT_ONCE_S:
                    what = NAMES[type(payload.constraint)]
                    return answer(refusal=f"This {what} takes too long, or too much memory.")
        raise EngineUnavailable("The compiler ended while it had other work.", retry_after_s=1)

    def _known(self, name: str) -> Compiled | None:
        """What became of it, if that is kept still."""
        compiled = self._kept.get(name)
        if compiled is not None:
            self._kept.move_to_end(name)
        return compiled

    def _begun(self) -> str:
        """The last job that the compiler began."""
        try:
            return self._note.read_text()
        except OSError:
            return ""

    def _keep(self, name: str, compiled: Compiled) -> None:
        self._kept[name] = compiled
        self._kept_bytes += _size(compiled)
        while len(self._kept) > CACHED_RULES or self._kept_bytes > CACHED_BYTES:
            _, dropped = self._kept.popitem(last=False)
            self._kept_bytes -= _size(dropped)


class OwnedGrammars:
    """The same for one owner."""

    def __init__(self, grammars: SandboxGrammars, owner: str) -> None:
        self._grammars = grammars
        self._owner = owner

    def of(self, owner: str) -> "OwnedGrammars":
        """See `Grammars.of`."""
        return self._grammars.of(owner)

    async def rule(self, schema: bytes, *, path: str) -> str:
        """See `Grammars.rule`."""
        return await self.rule_of(JsonFormat(schema=schema, path=path))

    async def fault(self, schema: bytes, text: str) -> str | None:
        """See `Grammars.fault`."""
        return await self.fault_of(JsonFormat(schema=schema, path=""), text)

    async def rule_of(self, constraint: Constraint) -> str:
        """See `Grammars.rule_of`."""
        return await self._grammars.rule_of(constraint, owner=self._owner)

    async def fault_of(self, constraint: Constraint, text: str, *, cut: bool = False) -> str | None:
        """See `Grammars.fault_of`."""
        return await self._grammars.fault_of(constraint, text, cut=cut, owner=self._owner)


def _bare(constraint: Constraint) -> Constraint:
    """The same wherever it stands in a request."""
    if isinstance(constraint, JsonFormat):
        return msgspec.structs.replace(constraint, path="", spacing_path="")
    return msgspec.structs.replace(constraint, path="")


def _size(compiled: Compiled) -> int:
    return len(compiled.rule) + len(compiled.refusal) + 200


def _refusal(told: Compiled | Checked, constraint: Constraint) -> InvalidRequest:
    if isinstance(constraint, JsonFormat) and told.at == SPACING:
        return InvalidRequest(told.refusal, param=constraint.spacing_path, code="invalid_value")
    path = constraint.path
    param = f"{path}.{told.at}" if path and told.at and not told.at.startswith("[") else path + told.at
    code = INVALID_SCHEMA if isinstance(constraint, JsonFormat) else "invalid_value"
    return InvalidRequest(told.refusal, param=param or None, code=code)
