"""The worker's own socket, on which the supervisor spreads reloads.

prepare  WorkerSettings as JSON text → {}   a whole snapshot is built beside the running one; raises ConfigError
commit   null → {}                          it takes the place of the running one
abandon  null → {}                          it is dropped
settled  null → {}                          answers once no request runs under former settings
"""

from collections.abc import Callable
from pathlib import Path

import msgspec

from narthex.app import tls
from narthex.app.worker import Worker
from narthex.http.worker import WorkerSettings
from narthex.ipc.server import Peer, Server


def control_server(path: Path, worker: Worker, *, committed: Callable[[WorkerSettings], None]) -> Server:
    """The server on that socket, not yet started. `committed` hears which settings are in force now."""

    async def prepare(_: Peer, payload: msgspec.Raw) -> dict[str, str]:
        text = msgspec.msgpack.decode(payload, type=str)
        settings = msgspec.json.decode(text, type=WorkerSettings)
        tls.check(settings)
        await worker.prepare(settings)
        return {}

    async def commit(_peer: Peer, _payload: msgspec.Raw) -> dict[str, str]:
        worker.commit()
        committed(worker.settings)
        return {}

    async def abandon(_peer: Peer, _payload: msgspec.Raw) -> dict[str, str]:
        await worker.abandon()
        return {}

    async def settled(_peer: Peer, _payload: msgspec.Raw) -> dict[str, str]:
        await worker.settled()
        return {}

    return Server(path, {"prepare": prepare, "commit": commit, "abandon": abandon, "settled": settled})
