"""What deployments of a kind have in common: those on one process of this server, and those around another."""

from collections.abc import Mapping
from typing import get_args

from narthex.core.capabilities import Capabilities
from narthex.core.ports import NO_CLOCKS, Call, Clocks, Deployment, Surface

HERE = "local/"
"""What the names of this server's own deployments begin with."""
SURFACES: tuple[Surface, ...] = get_args(Surface)


class Local:
    """One model of this server on one surface, whose answers nobody can go on with. `open` is still to be written."""

    clocks: Clocks = NO_CLOCKS
    fingerprint: str | None = None

    def __init__(self, model: str, *, surface: Surface, honoured: Capabilities) -> None:
        self.name = f"{HERE}{model}"
        self._surface = surface
        self._honoured = honoured

    def capabilities(self, surface: Surface) -> Capabilities | None:
        """See `Deployment.capabilities`."""
        return self._honoured if surface == self._surface else None

    def continues(self, call: Call) -> bool:
        """See `Deployment.continues`."""
        return False


class Around:
    """A deployment around another one, which it stands for. `open` is still to be written.

    What the other honours must not change: it is asked once, and not with every request.
    """

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self.name = deployment.name
        self.clocks = deployment.clocks
        self._honoured: Mapping[Surface, Capabilities] = {
            surface: self.honoured(surface, honoured)
            for surface in SURFACES
            if (honoured := deployment.capabilities(surface)) is not None
        }

    def honoured(self, surface: Surface, inner: Capabilities) -> Capabilities:
        """What is honoured here where the other honours `inner`."""
        return inner

    @property
    def fingerprint(self) -> str | None:
        """See `Deployment.fingerprint`."""
        return self._deployment.fingerprint

    def capabilities(self, surface: Surface) -> Capabilities | None:
        """See `Deployment.capabilities`."""
        return self._honoured.get(surface)

    def continues(self, call: Call) -> bool:
        """See `Deployment.continues`."""
        return self._deployment.continues(call)
