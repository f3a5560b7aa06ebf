"""How well a search finds what is known to answer a question: recall@k, nDCG@10, MRR, and how sure they are.

Every question has one answer: a document, or a passage of it. What counts is the rank of the first result that shows
it, so that cutting a passage into more chunks gains nothing. With one answer, nDCG@10 is 1 / log2(1 + rank).
Source: Järvelin and Kekäläinen 2002 (nDCG); Efron 1979 (bootstrap).
"""

import csv
import math
import random
from collections.abc import Callable, Iterable, Sequence

import msgspec

from narthex.core.errors import InvalidRequest

DEPTH = 10
"""Results that are looked at."""
RESAMPLES = 2000


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """A question and what answers it. `start` and `stop`: the passage, in code points; None: the whole document."""

    question: str
    document: str
    start: int | None = None
    stop: int | None = None

    def shown_by(self, document: str, start: int, stop: int) -> bool:
        """Whether a result, a chunk of a document, shows the answer or a part of it."""
        if document != self.document:
            return False
        return self.start is None or self.stop is None or (start < self.stop and self.start < stop)


class Measures(msgspec.Struct, frozen=True, kw_only=True):
    """Means over all questions, each between 0 and 1."""

    questions: int
    recall_1: float
    recall_5: float
    recall_10: float
    ndcg_10: float
    mrr_10: float


def read_questions(lines: Iterable[str]) -> list[Judged]:
    """The questions of a CSV file with a header: `question`, `document`, and where a passage is meant `start`, `stop`.

    Raises:
        InvalidRequest: a column is missing, or a line can't be read; says which.
    """
    reader = csv.DictReader(lines)
    columns = set(reader.fieldnames or ())
    if missing := sorted({"question", "document"} - columns):
        raise InvalidRequest(f"The questions lack the column `{missing[0]}`: there must be `question` and `document`.")
    found = []
    for row in reader:
        question, document = (row["question"] or "").strip(), (row["document"] or "").strip()
        if not question or not document:
            raise InvalidRequest(f"Line {reader.line_num} of the questions is not complete.")
        try:
            start, stop = (int(row[name]) if row.get(name) else None for name in ("start", "stop"))
        except ValueError:
            raise InvalidRequest(f"Line {reader.line_num}: `start` and `stop` must be whole numbers.") from None
        found.append(Judged(question=question, document=document, start=start, stop=stop))
    if not found:
        raise InvalidRequest("There are no questions.")
    return found


def gain(rank: int | None) -> float:
    """The nDCG@10 of one question whose answer came at `rank` (from 1; None: not at all)."""
    return 1 / math.log2(1 + rank) if rank is not None and rank <= DEPTH else 0.0


def measured(ranks: Sequence[int | None]) -> Measures:
    """What the ranks of the answers come to. Needs at least one."""
    total = len(ranks)

    def recall(k: int) -> float:
        return sum(rank is not None and rank <= k for rank in ranks) / total

    return Measures(
        questions=total,
        recall_1=recall(1),
        recall_5=recall(5),
        recall_10=recall(10),
        ndcg_10=math.fsum(map(gain, ranks)) / total,
        mrr_10=math.fsum(1 / rank for rank in ranks if rank is not None and rank <= DEPTH) / total,
    )


def halves(questions: int) -> tuple[list[int], list[int]]:
    """The indices of the questions to choose by and of those to report on; always the same for a number of them."""
    order = list(range(questions))
    random.Random(7).shuffle(order)  # noqa: S311 - a fair deal, no secret
    middle = (questions + 1) // 2
    return sorted(order[:middle]), sorted(order[middle:])


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Where the mean lies with 95 % confidence: the percentile bootstrap. Needs at least one value.

    Give differences, question by question, to compare two searches.
    """
    draw = random.Random(11)  # noqa: S311 - resampling, no secret
    total = len(values)
    means = sorted(math.fsum(draw.choices(values, k=total)) / total for _ in range(RESAMPLES))
    return means[round(0.025 * (RESAMPLES - 1))], means[round(0.975 * (RESAMPLES - 1))]


def best_weight(scores: Callable[[float], float], weights: Sequence[float]) -> float:
    """The weight of the highest score; of equals, the one nearest to an even share."""
    return max(weights, key=lambda weight: (round(scores(weight), 6), -abs(weight - 0.5)))
