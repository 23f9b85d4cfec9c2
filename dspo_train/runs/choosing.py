"""Which of a run's measured steps is the best, and when to stop looking for a better one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..training.held_out import HeldOut, from_report


@dataclass(frozen=True)
class Evaluation:
    """The figures of a measured step that decide the choice; as in `HeldOut`."""

    step: int
    accuracy: float
    accuracy_error: float
    winner_change: float

    @classmethod
    def of(cls, step: int, held: HeldOut) -> Evaluation:
        return cls(step, held.accuracy, held.accuracy_error, held.winner_change)


def evaluations(reports: Iterable[Mapping[str, Any]]) -> tuple[Evaluation, ...]:
    """The measurements among a run's reports, ordered by step; of several for one step, as after a resume, the last."""
    found = {report["step"]: held for report in reports if (held := from_report(report)) is not None}
    return tuple(Evaluation.of(step, held) for step, held in sorted(found.items()))


def best(history: Sequence[Evaluation]) -> Evaluation | None:
    """The step to keep: the lowest winner's error within one standard error of the highest accuracy; None if no
    measurement is finite.

    Accuracy measures the direction of what was learned, not the amount: it is reached after a few steps, and which
    later step is highest is chance. Among equal rankings, the winner's error decides. The margin does not count,
    because it also grows if the loser's error merely rises faster than the winner's.

    Only the newest step ever replaces the one that was kept, so a run need not store any other weights.

    Args:
        history: ordered by step.
    """
    highest = kept = None
    for new in history:
        if not math.isfinite(new.winner_change):
            continue
        if highest is None or new.accuracy > highest.accuracy:
            highest = new
        least = highest.accuracy - (highest.accuracy_error if math.isfinite(highest.accuracy_error) else 0.0)
        if new.accuracy >= least and (kept is None or kept.accuracy < least or new.winner_change < kept.winner_change):
            kept = new
    return kept


def should_stop(history: Sequence[Evaluation], patience: int) -> bool:
    """Is `best` at least `patience` measurements back? Never true for a patience of 0.

    Args:
        history: ordered by step.
    """
    chosen = best(history)
    return patience > 0 and chosen is not None and len(history) - 1 - history.index(chosen) >= patience
