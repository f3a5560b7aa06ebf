"""The sandbox process: renders one template after the other, each under a limit of time; its memory is limited as a
whole. Templates that callers bring are rendered apart, each in a process of its own.
"""

from typing import Any

import msgspec

from narthex.core.templates import TEMPLATE
from narthex.ipc.server import Peer
from narthex.sandbox.apart import Apart
from narthex.sandbox.child import Operations, run
from narthex.sandbox.limits import run_job
from narthex.sandbox.protocol import NAME, Render, RenderBrought, SandboxSettings
from narthex.sandbox.templates import render, render_brought


def operations(settings: SandboxSettings) -> Operations:
    """The jobs that it does."""

    async def on_render(_: Peer, payload: msgspec.Raw) -> Any:
        job = msgspec.msgpack.decode(payload, type=Render)
        return run_job(lambda: render(job.template, job.variables), limit_s=settings.time_limit_s, what="chat template")

    apart = Apart(limit_s=settings.time_limit_s, what="chat template", param=TEMPLATE)

    async def on_render_brought(_: Peer, payload: msgspec.Raw) -> Any:
        job = msgspec.msgpack.decode(payload, type=RenderBrought)
        return await apart.run(lambda: render_brought(job.template, job.variables, most_chars=job.most_chars))

    return {"render": on_render, "render_brought": on_render_brought}


if __name__ == "__main__":
    run(NAME, operations)
