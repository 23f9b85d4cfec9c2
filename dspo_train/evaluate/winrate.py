"""Win rates with an interval that treats the prompt, not the image, as the independent unit."""

from __future__ import annotations

import bisect
import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from scipy.stats import norm
from scipy.stats import t as student


@dataclass(frozen=True)
class WinRate:
    """Share of comparisons won, ties counted as one half, and its two-sided confidence interval, all in [0, 1]."""

    rate: float
    low: float
    high: float
    comparisons: int
    prompts: int

    def __str__(self) -> str:
        return f"{self.rate:.1%} (95% interval {self.low:.1%} to {self.high:.1%})"


def win_rate(outcomes: Iterable[tuple[str, float]], confidence: float = 0.95, *, evidence: float = 1.0) -> WinRate:
    """Estimate a win rate from (prompt, outcome) with outcome 1 won, 0.5 tied, 0 lost.

    Images of one prompt are alike, so their comparisons carry less evidence than as many independent ones. The interval
    is Wilson's (1927) at the effective number of comparisons n = W (1 - W) / se^2, where se is the cluster-robust
    standard error over the K prompts; n is at most the number of comparisons made, and is K if all were won or all
    lost. A few prompts determine their spread poorly, so n is multiplied by (z / t)^2, with t the quantile of Student's
    distribution with K - 1 degrees of freedom (Korn & Graubard 1998).

    Args:
        evidence: by which n is multiplied, where the prompts are not independent either.

    Raises:
        ValueError: there are no outcomes, or one is outside [0, 1].
    """
    groups = _by_prompt(outcomes)
    rate, total = _rate(groups)
    prompts, n = len(groups), evidence * _effective_comparisons(groups, rate, total)
    low, high = wilson(rate, _few(prompts, confidence) * n, confidence)
    return WinRate(rate, low, high, total, prompts)


def votes_to_settle(outcomes: Iterable[tuple[str, float]], confidence: float = 0.95) -> int | None:
    """How many more votes until the interval of `win_rate` excludes one half, at the rate of the votes so far.

    This assumes the same spread, and as many votes for each new prompt as for the present ones.

    Returns:
        0 if it already does; None if the rate is one half, so that it never will.

    Raises:
        ValueError: as for `win_rate`.
    """
    groups = _by_prompt(outcomes)
    rate, total = _rate(groups)
    if rate == 0.5:
        return None
    share = _effective_comparisons(groups, rate, total) / total

    def settled(votes: int) -> bool:
        n = _few(len(groups) * votes / total, confidence) * share * votes
        low, high = wilson(rate, n, confidence)
        return not low <= 0.5 <= high

    enough = total
    while not settled(enough):
        enough *= 2
    return bisect.bisect_left(range(total, enough), True, key=settled)


def _few(prompts: float, confidence: float) -> float:
    """The factor (z / t)^2; a single prompt has no measurable spread, and counts as one and a half."""
    return (_z(confidence) / float(student.ppf(0.5 + confidence / 2, max(prompts - 1, 0.5)))) ** 2


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
    if rate in (0.0, 1.0):
        return float(clusters)
    if variance == 0:
        return float(total)
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
