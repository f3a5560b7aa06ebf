"""A reload in two phases over all workers: each makes ready beside what runs, and only if all can, all change over."""

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import structlog

from narthex.core.errors import ConfigError, EngineError, NarthexError
from narthex.ipc.client import Client
from narthex.supervisor.child import Child
from narthex.supervisor.plan import ChildSpec, control_socket
from narthex.supervisor.process import Process

log = structlog.get_logger(__name__)

_PREPARE_S = 60.0
_COMMIT_S = 30.0


class Prepared(msgspec.Struct, frozen=True):
    """A worker that holds a new snapshot ready. If its process is another one by now, it does not."""

    child: Child
    process: Process


class Workers:
    """The workers, as a reload asks them."""

    def __init__(self, children: Mapping[str, Child], run_dir: Path) -> None:
        self._children = children
        self._run_dir = run_dir

    async def prepare(self, specs: Iterable[ChildSpec]) -> list[Prepared]:
        """Have every worker that runs make ready; one that does not will start by its new spec.

        Raises:
            ConfigError: one can't, and says why, or ended meanwhile. Nothing is kept ready then.
        """
        wanted = [(self._children[spec.name], spec) for spec in specs if spec.listener]
        answers = await asyncio.gather(*(self._prepare(*each) for each in wanted), return_exceptions=True)
        ready = [answer for answer in answers if isinstance(answer, Prepared)]
        failures = [answer for answer in answers if isinstance(answer, BaseException)]
        if failures:
            await asyncio.gather(*(self._quietly(each.child, "abandon") for each in ready))
            raise failures[0]
        return ready

    async def commit(self, ready: Iterable[Prepared]) -> None:
        """Have those change over that are ready. One that can't, or was started meanwhile, is started anew."""
        await asyncio.gather(*(self._commit(each) for each in ready))
        late = [child for child in self._children.values() if child.spec.listener and child.is_outdated]
        await asyncio.gather(*(child.restart() for child in late))

    async def settled(self) -> None:
        """Until no worker has a request that began under former settings."""
        workers = [child for child in self._children.values() if child.spec.listener and child.state == "ready"]
        await asyncio.gather(*(self._quietly(child, "settled") for child in workers))

    async def _prepare(self, child: Child, spec: ChildSpec) -> Prepared | None:
        if child.state == "starting":
            try:
                await child.ensure()
            except EngineError:
                return None
        process = child.process
        if child.state != "ready" or process is None:
            return None
        try:
            await self._ask(child, "prepare", msgspec.json.encode(spec.settings).decode(), within_s=_PREPARE_S)
        except NarthexError as error:
            raise ConfigError(f"{spec.name}: {error.message}") from None
        return Prepared(child, process)

    async def _commit(self, ready: Prepared) -> None:
        child = ready.child
        if child.process is not ready.process:
            return
        try:
            await self._ask(child, "commit", None, within_s=_COMMIT_S)
        except NarthexError as error:
            log.warning("worker did not change over", child=child.spec.name, reason=error.message)
        else:
            child.follows()

    async def _quietly(self, child: Child, operation: str) -> None:
        try:
            await self._ask(child, operation, None, within_s=None)
        except NarthexError:
            log.info("worker was not asked", child=child.spec.name, operation=operation)

    async def _ask(self, child: Child, operation: str, payload: Any, *, within_s: float | None) -> None:
        client = Client(control_socket(self._run_dir, child.spec.name), name=child.spec.name)
        try:
            await client.call(operation, payload, dict, timeout_s=within_s)
        finally:
            await client.aclose()
