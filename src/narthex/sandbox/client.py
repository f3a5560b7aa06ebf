"""Asks the sandbox; starts it when it isn't there."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from narthex.core.errors import EngineCrashed, EngineUnavailable
from narthex.core.ports import Ensure
from narthex.ipc.client import Client
from narthex.sandbox.protocol import NAME

TIMEOUT_S = 10.0
"""For one job and those before it; a job itself has a tighter limit over there."""


class SandboxTemplates:
    """`Templates`, rendered in the sandbox process. Close it with `aclose`."""

    def __init__(self, socket: Path, *, ensure: Ensure) -> None:
        self._client = Client(socket, name="sandbox")
        self._ensure = ensure

    async def render(self, template: str, variables: Mapping[str, Any]) -> str:
        """See `Templates.render`. A sandbox that is not running is started; one that ends under our job is not asked
        again for it, because the job may be what ended it.
        """
        payload = {"template": template, "variables": dict(variables)}
        try:
            try:
                return await self._client.call("render", payload, str, timeout_s=TIMEOUT_S)
            except EngineUnavailable:
                await self._ensure(NAME)
            return await self._client.call("render", payload, str, timeout_s=TIMEOUT_S)
        except EngineCrashed:
            raise EngineUnavailable("The sandbox ended while it rendered the chat template.", retry_after_s=1) from None

    async def aclose(self) -> None:
        """Close the connection."""
        await self._client.aclose()
