"""From single runs to a table: the best honest checkpoint of each, its mean over seeds, and how sure that is."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from scipy.stats import t as student

from dspo_train.evaluate import WinRate, win_rate

from .measure import prompts
from .plan import settings_runs

OTHER_DRIFT = {"ema", "moving_reference"}
FIT_LOST = 0.02  # checkpoints whose caption fit is further below the base's do not count


@dataclass(frozen=True)
class Row:
    """An objective at one setting in one condition, over its seeds.

    Attributes:
        reward: mean hidden reward of each seed's best checkpoint that keeps the caption fit; the base's for a seed
            where none is better than that.
        gained: how many seeds have a checkpoint that is better than the base and keeps the fit.
        low, high: 95% interval of that mean over seeds, Student's t; NaN for a single seed.
        win: over the base, of those checkpoints' pictures against the base's of the same prompt and seed.
        fit, spread, drift: of those checkpoints, means; the spread as a share of the base's. The drift is NaN where the
            run's own was of other weights (an average is looked at) or from another reference than the base (a
            moving one).
        step: of those checkpoints, the median; 0 is the base.
        last_reward, last_fit: of the last step, whatever its fit.
    """

    taste: str
    pairs: int
    flipped: float
    label: str
    objective: str
    seeds: int
    gained: int
    reward: float
    low: float
    high: float
    win: WinRate
    fit: float
    spread: float
    drift: float
    step: float
    last_reward: float
    last_fit: float


def share(values: Sequence[bool]) -> float:
    return sum(values) / len(values)


def reward(look: dict[str, Any], taste: str) -> float:
    """Mean hidden reward of a checkpoint's pictures."""
    return statistics.fmean(look["rewards"][taste])


def best_look(result: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """The look with the most reward among those that keep the caption fit; the base itself is one."""
    taste = result["run"]["taste"]
    least = share(base["fits"]) - FIT_LOST
    known = [{"step": 0, "drift": 0.0, **base}, *result["looks"]]
    return max(
        (look for look in known if share(look["fits"]) >= least - 1e-9),
        key=lambda look: reward(look, taste),
    )


def row(results: Sequence[dict[str, Any]], base: dict[str, Any]) -> Row:
    """One line of the table, from the runs that differ by their seed alone."""
    run = results[0]["run"]
    taste = run["taste"]
    best = [best_look(result, base) for result in results]
    rewards = [reward(look, taste) for look in best]
    last = [result["looks"][-1] for result in results]
    low, high = interval(rewards)
    return Row(
        taste=taste,
        pairs=run["pairs"],
        flipped=run["flipped"],
        label=results[0]["label"],
        objective=run["objective"],
        seeds=len(results),
        gained=sum(look["step"] > 0 for look in best),
        reward=statistics.fmean(rewards),
        low=low,
        high=high,
        win=win_rate(_outcomes(best, base, taste)),
        fit=statistics.fmean(share(look["fits"]) for look in best),
        spread=statistics.fmean(look["spread"] for look in best) / base["spread"],
        drift=math.nan if run["options"].keys() & OTHER_DRIFT else statistics.fmean(look["drift"] for look in best),
        step=statistics.median(look["step"] for look in best),
        last_reward=statistics.fmean(reward(look, taste) for look in last),
        last_fit=statistics.fmean(share(look["fits"]) for look in last),
    )


def _outcomes(looks: Iterable[dict[str, Any]], base: dict[str, Any], taste: str) -> list[tuple[str, float]]:
    """(prompt, 1 where the trained model's picture is preferred to the base's, 0.5 where they are equal)"""
    return [
        (prompt, 1.0 if after > before else 0.5 if after == before else 0.0)
        for look in looks
        for prompt, after, before in zip(prompts(), look["rewards"][taste], base["rewards"][taste], strict=True)
    ]


def interval(values: Sequence[float]) -> tuple[float, float]:
    """95% interval of the mean of few values.

    >>> tuple(round(x, 3) for x in interval([1.0, 2.0, 3.0]))
    (-0.484, 4.484)
    """
    if len(values) < 2:
        return math.nan, math.nan
    mean = statistics.fmean(values)
    half = float(student.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return mean - half, mean + half


def table(results: Iterable[dict[str, Any]], base: dict[str, Any]) -> list[Row]:
    """A row for every setting in every condition, the most reward first."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for result in results:
        run = result["run"]
        groups[(run["taste"], run["pairs"], run["flipped"], result["label"])].append(result)
    rows = [row(sorted(group, key=lambda r: r["run"]["seed"]), base) for group in groups.values()]
    return sorted(rows, key=lambda r: (r.taste != "large_and_dark", -r.pairs, r.flipped, -r.reward))


def best_settings(results: Iterable[dict[str, Any]], base: dict[str, Any]) -> dict[tuple[str, str], str]:
    """(taste, objective) -> label of the setting that did best with 400 pairs and the first seed, without options and
    at the learning rate that is the same for all. Of settings that the table shows alike, as where none rises above the
    base, the one that is listed first.
    """
    runs = [r for r in results if "lr" not in r["run"]["settings"]]
    plain = [r for r in runs if not r["run"]["seed"] and not r["run"]["flipped"] and not r["run"]["options"]]
    rows = [row for row in table(plain, base) if row.pairs == 400]
    places = {run.label: place for place, run in enumerate(settings_runs())}
    rows.sort(key=lambda r: (round(r.reward, 2), -places.get(r.label, len(places))))
    return {(r.taste, r.objective): r.label for r in rows}
