"""What a run has learned so far, in figures that mean something to a person, and in words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .reports import LATEST

_MINUTE, _HOUR = 60, 3600  # seconds


@dataclass(frozen=True)
class Learned:
    """How far the model prefers winners.

    Attributes:
        share: of the draws in the latest steps, those in which the winner is preferred; chance is 0.5. None before the
            first step.
        right, pairs: at the last measurement, the held-out pairs in which it is, ties not counted, and all of them;
            None without a measurement.
    """

    share: float | None = None
    right: int | None = None
    pairs: int | None = None


def learned(reports: Sequence[Mapping[str, Any]]) -> Learned:
    """Of a run's latest reports, in order; `alarm.reports_needed` of them are enough."""
    shares = _numbers(list(reports)[-LATEST:], "accuracy")
    share = math.fsum(shares) / len(shares) if shares else None
    for report in reversed(reports):
        right, pairs = _numbers([report], "held_out_pair_accuracy"), report.get("held_out_pairs")
        if right and isinstance(pairs, int) and pairs > 0:
            return Learned(share, math.floor(right[0] * pairs + 1e-6), pairs)
    return Learned(share)


def seconds_left(reports: Sequence[Mapping[str, Any]], steps: int) -> float | None:
    """To the last of `steps`, by the median of the latest steps, which one slow step does not move; None if unknown."""
    recent = sorted(_numbers(list(reports)[-LATEST:], "seconds"))
    return (steps - reports[-1]["step"]) * recent[len(recent) // 2] if recent else None


def learned_in_words(found: Learned) -> str:
    """One line, short enough for a narrow node; empty before the first step."""
    if found.pairs is not None:
        return f"Prefers {found.right} of {found.pairs} held-out winners"
    if found.share is None:
        return ""
    return f"Prefers winners: {found.share:.0%} (chance: 50%)"


def time_left_in_words(seconds: float) -> str:
    """
    >>> [time_left_in_words(seconds) for seconds in (20, 100, 5000, 9000)]
    ['less than a minute left', 'about 2 minutes left', 'about 1 hour left', 'about 3 hours left']
    """
    if seconds < _MINUTE / 2:
        return "less than a minute left"
    minutes = math.floor(seconds / _MINUTE + 0.5)
    count, unit = (minutes, "minute") if minutes < 60 else (math.floor(seconds / _HOUR + 0.5), "hour")
    return f"about {count} {unit}{'s' if count > 1 else ''} left"


def _numbers(reports: Iterable[Mapping[str, Any]], name: str) -> list[float]:
    """A figure of each report that has it and in which it is finite."""
    values = (report.get(name) for report in reports)
    return [value for value in values if isinstance(value, (int, float)) and math.isfinite(value)]
