"""The supervisor's own socket: `ensure`, `stop`, `status`, `reload`, `drain`; for workers and the command line."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from narthex.core.errors import EngineUnavailable
from narthex.ipc.server import Operation, Peer
from narthex.supervisor.child import Child, Status
from narthex.supervisor.reload import Outcome


class ChildName(msgspec.Struct, frozen=True, kw_only=True):
    """The payload of `ensure` and `stop`."""

    child: str


def operations(
    children: Mapping[str, Child], *, reload: Callable[[], Awaitable[Outcome]], drain: Callable[[], None]
) -> dict[str, Operation]:
    """What the control socket answers.

    `ensure` and `stop` take `{"child": name}` and return `{"ready": true}` and `{"stopped": true}`; both raise
    EngineUnavailable for a name that isn't in the plan, and `ensure` what `Child.ensure` raises. `status` returns a
    list of `Status`, `reload` an `Outcome` once it is over. `drain` returns `{"draining": true}` at once.
    """

    def find(payload: msgspec.Raw) -> Child:
        name = msgspec.msgpack.decode(payload, type=ChildName).child
        try:
            return children[name]
        except KeyError:
            raise EngineUnavailable(f"There is no {name} in this server.") from None

    async def ensure(_: Peer, payload: msgspec.Raw) -> dict[str, bool]:
        await find(payload).ensure()
        return {"ready": True}

    async def stop(_: Peer, payload: msgspec.Raw) -> dict[str, bool]:
        await find(payload).stop()
        return {"stopped": True}

    async def status(_peer: Peer, _payload: msgspec.Raw) -> list[Status]:
        return [child.status() for child in children.values()]

    async def follow(_peer: Peer, _payload: msgspec.Raw) -> Outcome:
        return await reload()

    async def begin_drain(_peer: Peer, _payload: msgspec.Raw) -> Any:
        drain()
        return {"draining": True}

    return {"ensure": ensure, "stop": stop, "status": status, "reload": follow, "drain": begin_drain}
