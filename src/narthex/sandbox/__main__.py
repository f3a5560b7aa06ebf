"""The sandbox process: renders one template after the other, each under a limit of time; its memory is limited as a
whole.
"""

from typing import Any

import msgspec

from narthex.ipc.server import Peer
from narthex.sandbox.child import Operations, run
from narthex.sandbox.limits import run_job
from narthex.sandbox.protocol import NAME, Render, SandboxSettings
from narthex.sandbox.templates import render


def operations(settings: SandboxSettings) -> Operations:
    """The jobs that it does."""

    async def on_render(_: Peer, payload: msgspec.Raw) -> Any:
        job = msgspec.msgpack.decode(payload, type=Render)
        return run_job(lambda: render(job.template, job.variables), limit_s=settings.time_limit_s, what="chat template")

    return {"render": on_render}


if __name__ == "__main__":
    run(NAME, operations)
