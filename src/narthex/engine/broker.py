"""Hands an engine's slots to every worker: `LocalSlots` of the engine's process, offered on its control socket.

    acquire  Acquire   → Granted      waits; cancelling the call leaves the queue
    release  Release   → null
    queue    null      → QueueState
    retire   null      → {"retired": bool}   true: the engine was idle, takes no more and ends

Rule: a lease belongs to the connection that it came over and ends with it.
"""

import itertools
from collections.abc import Callable
from pathlib import Path

import msgspec

from narthex.engine.leases import Acquire, Granted, LocalSlots, QueueState, Release
from narthex.ipc.server import Peer, Server


class Broker:
    """Serves `slots` on `path`. `on_retired` is called once, when the engine should end."""

    def __init__(self, slots: LocalSlots, path: Path, *, on_retired: Callable[[], None]) -> None:
        self._slots = slots
        self._on_retired = on_retired
        self._numbers = itertools.count(1)
        self._leases: dict[Peer, dict[int, int]] = {}  # callers number their leases by themselves; ours are unique
        self._server = Server(
            path,
            {"acquire": self._acquire, "release": self._release, "queue": self._queue, "retire": self._retire},
        )

    async def start(self) -> None:
        """Begin to serve."""
        await self._server.start()

    async def aclose(self) -> None:
        """Leave every caller."""
        await self._server.aclose()

    async def _acquire(self, peer: Peer, payload: msgspec.Raw) -> Granted:
        want = msgspec.msgpack.decode(payload, type=Acquire)
        number = next(self._numbers)
        self._of(peer)[want.lease] = number
        granted = await self._slots.acquire(msgspec.structs.replace(want, lease=number))
        return msgspec.structs.replace(granted, lease=want.lease)

    async def _release(self, peer: Peer, payload: msgspec.Raw) -> None:
        release = msgspec.msgpack.decode(payload, type=Release)
        number = self._of(peer).pop(release.lease, None)
        if number is not None:
            self._slots.release(msgspec.structs.replace(release, lease=number))

    async def _queue(self, _peer: Peer, _payload: msgspec.Raw) -> QueueState:
        return self._slots.state()

    async def _retire(self, _peer: Peer, _payload: msgspec.Raw) -> dict[str, bool]:
        retired = self._slots.retire()
        if retired:
            self._on_retired()
        return {"retired": retired}

    def _of(self, peer: Peer) -> dict[int, int]:
        if peer not in self._leases:
            self._leases[peer] = {}
            peer.on_close.append(lambda: self._left(peer))
        return self._leases[peer]

    def _left(self, peer: Peer) -> None:
        for number in self._leases.pop(peer, {}).values():
            self._slots.release(Release(lease=number, slots=None))
