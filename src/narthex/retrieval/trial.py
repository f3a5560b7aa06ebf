"""Puts questions with known answers to a collection's search, in each of its ways, and proposes a weight.

The weight is chosen by one half of the questions and reported on the other: on those it was chosen by, it would look
better than it is.
"""

import time
from collections.abc import Callable, Sequence

import msgspec

from narthex.core.documents import RETRIEVALS, Retrieval
from narthex.retrieval.evaluation import DEPTH, Judged, Measures, best_weight, gain, halves, interval, measured

WEIGHTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)

Rank = int | None


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A result of a search: which part of which document."""

    document: str
    start: int
    stop: int


Search = Callable[[str, Retrieval, float], Sequence[Shown]]
"""The best results for a question, best first; the number is the vectors' share, where the two are put together."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One way of searching, on the questions reported on. `ndcg_10_interval`: with 95 % confidence. Times in ms."""

    retrieval: Retrieval
    measures: Measures
    ndcg_10_interval: tuple[float, float]
    p50_ms: float
    p95_ms: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a trial came to. `weight`: chosen by `chosen_by` questions; `ndcg_10_by_weight`: of those.

    `lead`: of hybrid search over the better of the other two, in nDCG@10, and where it lies with 95 % confidence.
    `missed`: questions that no way of searching answered, at most 20.
    """

    chosen_by: int
    weight: float
    ndcg_10_by_weight: dict[str, float]
    outcomes: tuple[Outcome, ...]
    lead: float
    lead_interval: tuple[float, float]
    missed: tuple[str, ...]


def trial(questions: Sequence[Judged], search: Search, *, progress: Callable[[int, int], None]) -> Report:
    """Ask everything. `progress` hears how many searches are done, and of how many.

    Raises:
        InvalidRequest: by way of `search`.
    """
    choosing, reporting = halves(len(questions))
    reporting = reporting or choosing  # of a single question
    asked = _Asked(questions, search, progress=progress, total=len(choosing) * len(WEIGHTS) + 3 * len(reporting))
    by_weight = {weight: measured(asked.ranks(choosing, "hybrid", weight)).ndcg_10 for weight in WEIGHTS}
    weight = best_weight(by_weight.__getitem__, WEIGHTS)
    ranks: dict[Retrieval, list[Rank]] = {}
    outcomes = []
    for way in RETRIEVALS:
        asked.elapsed_ms.clear()
        ranks[way] = asked.ranks(reporting, way, weight)
        outcomes.append(_outcome(way, ranks[way], sorted(asked.elapsed_ms)))
    better = max(ranks["vector"], ranks["keyword"], key=lambda found: measured(found).ndcg_10)
    leads = [gain(mine) - gain(theirs) for mine, theirs in zip(ranks["hybrid"], better, strict=True)]
    unanswered = [i for n, i in enumerate(reporting) if all(found[n] is None for found in ranks.values())]
    return Report(
        chosen_by=len(choosing),
        weight=weight,
        ndcg_10_by_weight={f"{each:g}": score for each, score in by_weight.items()},
        outcomes=tuple(outcomes),
        lead=sum(leads) / len(leads),
        lead_interval=interval(leads),
        missed=tuple(questions[i].question for i in unanswered[:20]),
    )


class _Asked:
    """The searches, with their times."""

    def __init__(
        self, questions: Sequence[Judged], search: Search, *, progress: Callable[[int, int], None], total: int
    ) -> None:
        self._questions = questions
        self._search = search
        self._progress = progress
        self._total = total
        self._done = 0
        self.elapsed_ms: list[float] = []

    def ranks(self, indices: Sequence[int], way: Retrieval, weight: float) -> list[Rank]:
        """Where the answers came, from 1."""
        return [self._rank(self._questions[i], way, weight) for i in indices]

    def _rank(self, judged: Judged, way: Retrieval, weight: float) -> Rank:
        began = time.monotonic()
        shown = self._search(judged.question, way, weight)
        self.elapsed_ms.append((time.monotonic() - began) * 1000)
        self._done += 1
        self._progress(self._done, self._total)
        hits = (n for n, each in enumerate(shown, 1) if judged.shown_by(each.document, each.start, each.stop))
        return next((rank for rank in hits if rank <= DEPTH), None)


def _outcome(way: Retrieval, ranks: Sequence[Rank], elapsed_ms: Sequence[float]) -> Outcome:
    return Outcome(
        retrieval=way,
        measures=measured(ranks),
        ndcg_10_interval=interval([gain(rank) for rank in ranks]),
        p50_ms=elapsed_ms[len(elapsed_ms) // 2],
        p95_ms=elapsed_ms[int(len(elapsed_ms) * 0.95)],
    )
