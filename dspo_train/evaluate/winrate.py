"""Win rates with an interval that treats the prompt, not the picture, as the independent unit."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from scipy.stats import norm


@dataclass(frozen=True)
class WinRate:
    """Share of comparisons won, ties at one half, and its two-sided confidence interval, all in [0, 1]."""

    rate: float
    low: float
    high: float
    comparisons: int
    prompts: int

    def __str__(self) -> str:
        return f"{self.rate:.1%} (95% interval {self.low:.1%} to {self.high:.1%})"


def win_rate(outcomes: Iterable[tuple[str, float]], confidence: float = 0.95) -> WinRate:
    """Estimate a win rate from (prompt, outcome) with outcome 1 won, 0.5 tied, 0 lost.

    Pictures of one prompt go together, so their comparisons say less than as many independent ones. The interval is
    Wilson's (1927) at the effective number of comparisons n = W (1 - W) / se^2, se the cluster-robust standard error
    over prompts, but never more comparisons than were made; where no prompt differs from another (all won, say), n is
    the number of prompts.

    Raises:
        ValueError: no outcomes, or one outside [0, 1].
    """
    groups = _by_prompt(outcomes)
    rate, total = _rate(groups)
    low, high = wilson(rate, _effective_comparisons(groups, rate, total), confidence)
    return WinRate(rate, low, high, total, len(groups))


def votes_to_settle(outcomes: Iterable[tuple[str, float]], confidence: float = 0.95) -> int | None:
    """How many more votes until the interval of `win_rate` leaves one half, if they go on as the given ones went.

    Wilson's interval holds exactly the shares that the score test does not reject (Wilson 1927), so it leaves 1/2
    once |W - 1/2| > z sqrt(1/4 / n), that is at n > z^2 / (4 (W - 1/2)^2) effective comparisons. Going on means the
    same rate W and as many votes for each effective comparison: new prompts, judged as often as the present ones.

    Returns:
        0 where the interval has left one half already, None where the rate is one half and never will.

    Raises:
        ValueError: as for `win_rate`.
    """
    groups = _by_prompt(outcomes)
    rate, total = _rate(groups)
    if rate == 0.5:
        return None
    votes_each = total / _effective_comparisons(groups, rate, total)
    needed = _z(confidence) ** 2 / (4 * (rate - 0.5) ** 2)
    return max(0, math.floor(needed * votes_each) + 1 - total)


def _by_prompt(outcomes: Iterable[tuple[str, float]]) -> list[list[float]]:
    by_prompt: dict[str, list[float]] = defaultdict(list)
    for prompt, outcome in outcomes:
        if not 0 <= outcome <= 1:
            raise ValueError(f"an outcome is 0, 0.5 or 1, got {outcome!r} for {prompt!r}")
        by_prompt[prompt].append(outcome)
    if not by_prompt:
        raise ValueError("no comparisons were made; a win rate needs at least one")
    return list(by_prompt.values())


def _rate(groups: list[list[float]]) -> tuple[float, int]:
    """The share of all comparisons won, and their number."""
    total = sum(map(len, groups))
    return sum(map(sum, groups)) / total, total


def _z(confidence: float) -> float:
    return float(norm.ppf(0.5 + confidence / 2))


def _effective_comparisons(groups: list[list[float]], rate: float, total: int) -> float:
    clusters = len(groups)
    residuals = [sum(group) - rate * len(group) for group in groups]
    if clusters < 2:
        return 1.0
    variance = clusters / (clusters - 1) * sum(r * r for r in residuals) / total**2
    if variance == 0:
        return float(clusters)
    return min(max(rate * (1 - rate) / variance, 1.0), float(total))


def wilson(rate: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Score interval for a share `rate` seen in n independent trials.

    >>> [round(x, 4) for x in wilson(0.5, 100)]
    [0.4038, 0.5962]
    """
    z = _z(confidence)
    middle = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)
