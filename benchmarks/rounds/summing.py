"""The best look that keeps the fit, and what the guard would have kept."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.taste.summary import FIT_LOST
from dspo_train.rounds.guard import Limits

from .results import Row


def keeps_fit(look: Row, base: Row) -> bool:
    """Within two points of the base's caption fit."""
    return look.fit >= base.fit - FIT_LOST - 1e-4  # as exact as the rows are


def best(looks: Sequence[Row], base: Row) -> Row:
    """The look with the most reward among those that keep the fit; the base is one."""
    return max([base, *(look for look in looks if keeps_fit(look, base))], key=lambda look: look.reward)


def guarded(looks: Sequence[Row], base: Row, limits: Limits) -> Row:
    """What the guard keeps: the round before the first whose check passes a limit, or the last."""
    kept = looks[0] if looks else base
    for look in looks:
        if look.check.broken(limits):
            break
        kept = look
    return kept
