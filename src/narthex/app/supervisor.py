"""The supervisor, as a worker knows it."""

from pathlib import Path

from narthex.http.admin import Reloaded
from narthex.ipc.client import Client


class Supervisor:
    """Asks on the supervisor's socket. Close it with `aclose`."""

    def __init__(self, run_dir: Path) -> None:
        self._client = Client(run_dir / "supervisor.sock", name="supervisor")

    async def ensure(self, child: str) -> None:
        """See `Ensure`."""
        await self._client.call("ensure", {"child": child}, dict)

    async def stop(self, child: str) -> None:
        """Stop a child; nothing happens to one that does not run."""
        await self._client.call("stop", {"child": child}, dict)

    async def reload(self) -> Reloaded:
        """Have the settings read again and all workers follow them.

        Raises:
            EngineError: the supervisor can't be asked.
            Draining: it ends.
        """
        return await self._client.call("reload", None, Reloaded)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._client.aclose()
