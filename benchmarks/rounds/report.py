"""The comparison as a table: what each taste and seed gained, and by how much rounds are ahead."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.taste.summary import interval
from dspo_train.rounds.guard import Limits

from .in_rounds import InRounds
from .one_shot import OneShot
from .results import BASE, Row
from .summing import best, guarded, keeps_fit

_HEAD = [
    "| taste | seed | base | one shot, best | rounds, best | gain, times | as the guard ends them | fit there |",
    "|---|---|---|---|---|---|---|---|",
]


@dataclass(frozen=True)
class Compared:
    """One taste and seed: the untrained model, the best of one training, the best round, and the guard's round."""

    base: Row
    once: Row
    most: Row
    ended: Row

    @property
    def gains(self) -> tuple[float, float, float]:
        return tuple(row.reward - self.base.reward for row in (self.once, self.most, self.ended))  # type: ignore[return-value]

    def line(self) -> str:
        once, most, _ = self.gains
        times = f"{most / once:.1f}" if once > 0 else "-"
        rewards = f"{self.base.reward:+.2f} | {self.once.reward:+.2f} | {self.most.reward:+.2f} | {times}"
        ended = f"{self.ended.reward:+.2f} (round {self.ended.at}) | {self.ended.fit:.0%}"
        return f"| {self.most.taste} | {self.ended.seed} | {rewards} | {ended} |"


def written(rows: Sequence[Row], shots: Sequence[OneShot], courses: Sequence[InRounds]) -> str:
    """Markdown: of the runs that are there."""
    found = compared(rows, shots, courses)
    return "\n".join([*_HEAD, *(each.line() for each in found), "", *(_summed(found) if len(found) > 1 else [])])


def compared(rows: Sequence[Row], shots: Sequence[OneShot], courses: Sequence[InRounds]) -> list[Compared]:
    def looks(name: str, taste: int) -> list[Row]:
        return [row for row in rows if row.run == name and row.taste == taste]

    found = []
    for course in courses:
        taste, seed = course.first.taste, course.first.seed
        names = [run.name for run in shots if (run.taste, run.seed) == (taste, seed)]
        single, rounds = [row for name in names for row in looks(name, taste)], looks(course.name, taste)
        if single and rounds:
            (base,) = looks(BASE, taste)
            found.append(Compared(base, best(single, base), best(rounds, base), guarded(rounds, base, Limits())))
    return found


def _summed(found: Sequence[Compared]) -> list[str]:
    gains = [each.gains for each in found]
    once, most, kept = (statistics.fmean(gain[place] for gain in gains) for place in range(3))
    lines = [
        f"Mean gain over {len(gains)} runs: one shot {once:.2f}, rounds {most:.2f}, as the guard ends them {kept:.2f}."
    ]
    for place, what in ((1, "Rounds at their best"), (2, "Rounds as the guard ends them")):
        ahead = [gain[place] - gain[0] for gain in gains]
        twice = [gain[place] - 2 * gain[0] for gain in gains]
        (low, high), (lower, upper) = interval(ahead), interval(twice)
        lines.append(
            f"{what}: {statistics.fmean(ahead):+.2f} ({low:+.2f} to {high:+.2f}) over one shot, ahead in "
            f"{sum(each > 0 for each in ahead)}; over twice its gain {statistics.fmean(twice):+.2f} ({lower:+.2f} to "
            f"{upper:+.2f}), reached in {sum(each >= 0 for each in twice)}; paired, 95%."
        )
    kept_fit = sum(keeps_fit(each.ended, each.base) for each in found)
    given_away = statistics.fmean(each.most.reward - each.ended.reward for each in found)
    lines.append(
        f"The guard: {kept_fit} of {len(found)} ended within two points of the base's fit; it gave away "
        f"{given_away:.2f} of what the best round that keeps the fit had."
    )
    return lines
