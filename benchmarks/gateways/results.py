"""What was measured, and the ratios that are drawn from it."""

from statistics import median

import msgspec
from gateways.load import Load
from gateways.sides import OURS
from gateways.upstream import EVENTS

DIRECT = "direct"
"""The upstream itself, with no gateway before it."""


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked, and by how many at a time."""

    mode: str
    connections: int


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement. `pair` names the peer that it stands beside."""

    side: str
    pair: str
    cell: Cell
    round: int
    load: Load

    def cpu_us(self) -> float | None:
        """Microseconds of CPU a request; of a stream as a whole, even where not all of them came to their end."""
        done = self.load.events / EVENTS if self.cell.mode == "stream64" else self.load.answered
        return self.load.cpu_s / done * 1e6 if done else None


class Side(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    start_s: float
    idle_mb: float
    after_mb: float


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """All of a run. `absent`: who could not be measured, and why."""

    sides: list[Side]
    absent: dict[str, str]
    trials: list[Trial]

    def cells(self) -> list[Cell]:
        return list(dict.fromkeys(trial.cell for trial in self.trials))

    def of(self, side: str, cell: Cell) -> list[Trial]:
        return [trial for trial in self.trials if trial.side == side and trial.cell == cell]

    def cpu_us(self, side: str, cell: Cell) -> float | None:
        return middle([trial.cpu_us() for trial in self.of(side, cell)])

    def ratio(self, peer: str, cell: Cell) -> float | None:
        """How many times our CPU the peer's is: the median over the pairs that were measured one after the other."""
        ours = {trial.round: trial.cpu_us() for trial in self.of(OURS, cell) if trial.pair == peer}
        ratios: list[float | None] = []
        for trial in self.of(peer, cell):
            its, our = trial.cpu_us(), ours.get(trial.round)
            ratios.append(its / our if its and our else None)
        return middle(ratios)

    def figure(self, side: str, cell: Cell, name: str) -> float | None:
        """The median of one of `Load`'s fields."""
        return middle([getattr(trial.load, name) for trial in self.of(side, cell)])

    def rate(self, side: str, cell: Cell, name: str) -> float | None:
        """The same, by the second."""
        return middle([getattr(trial.load, name) / trial.load.seconds for trial in self.of(side, cell)])

    def added(self, side: str, cell: Cell, name: str) -> float | None:
        """The same, less what the server itself takes when it is asked directly, in the same round."""
        direct = {trial.round: getattr(trial.load, name) for trial in self.of(DIRECT, cell)}
        differences: list[float | None] = []
        for trial in self.of(side, cell):
            its, bare = getattr(trial.load, name), direct.get(trial.round)
            differences.append(its - bare if its is not None and bare is not None else None)
        return middle(differences)

    def merged_share(self, side: str, cell: Cell) -> float | None:
        """Events that came in one read with the one before them."""
        events = sum(trial.load.events for trial in self.of(side, cell))
        return sum(trial.load.merged for trial in self.of(side, cell)) / events if events else None


def middle(values: list[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return median(there) if there else None
