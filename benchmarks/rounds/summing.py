"""The best look that keeps the fit, and what the guard would have kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.taste.summary import FIT_LOST
from dspo_train.rounds.guard import Check, Limits

from .looks import fit, reward
from .tastes import Taste

Look = Mapping[str, Any]


def keeps_fit(look: Look, base: Look) -> bool:
    """Within two points of the base's caption fit."""
    return fit(look) >= fit(base) - FIT_LOST - 1e-9


def best(looks: Sequence[Look], base: Look, taste: Taste) -> Look:
    """The look with the most reward among those that keep the fit; the base is one."""
    return max([base, *(look for look in looks if keeps_fit(look, base))], key=lambda look: reward(look, taste))


def guarded(looks: Sequence[Look], base: Look, limits: Limits) -> Look:
    """What the guard keeps: the round before the first whose check passes a limit, or the last."""
    kept = looks[0] if looks else base
    for look in looks:
        if Check.from_dict(look["check"]).broken(limits):
            break
        kept = look
    return kept
