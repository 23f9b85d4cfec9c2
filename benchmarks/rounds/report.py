"""The comparison as a table: what each taste and seed gained, and by how much rounds are ahead."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks.taste.summary import interval
from dspo_train.rounds.guard import Limits

from .in_rounds import InRounds
from .looks import fit, reward
from .one_shot import OneShot
from .summing import Look, best, guarded, keeps_fit
from .tastes import Taste


def written(out: Path, base: Look, shots: Sequence[OneShot], courses: Sequence[InRounds]) -> str:
    """Markdown: of the runs that are there."""
    looks_of = {(run.taste, run.seed): [] for run in shots}
    for run in shots:
        looks_of[run.taste, run.seed] += _looks(out / "one-shot" / f"{run.name}.json")
    lines = [
        "| taste | seed | base | one shot, best of any length and sharpness | rounds, best | gain, times | rounds, "
        "as the guard ends them | its fit |",
        "|---|---|---|---|---|---|---|---|",
    ]
    gains: list[tuple[float, float, float]] = []
    stops: list[tuple[bool, float]] = []
    for course in courses:
        taste, seed = Taste(course.first.taste), course.first.seed
        rounds, single = _looks(out / "rounds" / f"{course.name}.json"), looks_of[course.first.taste, seed]
        if not rounds or not single:
            continue
        start, once, most = (
            reward(look, taste) for look in (base, best(single, base, taste), best(rounds, base, taste))
        )
        ended = guarded(rounds, base, Limits())
        gains.append((once - start, most - start, reward(ended, taste) - start))
        stops.append((keeps_fit(ended, base), most - reward(ended, taste)))
        times = f"{(most - start) / (once - start):.1f}" if once > start else "-"
        lines.append(
            f"| {taste.number} | {seed} | {start:+.2f} | {once:+.2f} | {most:+.2f} | {times} | "
            f"{reward(ended, taste):+.2f} (round {rounds.index(ended) + 1}) | {fit(ended):.0%} |"
        )
    return "\n".join([*lines, "", *(_summed(gains, stops) if len(gains) > 1 else [])])


def _summed(gains: Sequence[tuple[float, float, float]], stops: Sequence[tuple[bool, float]]) -> list[str]:
    once, most, kept = (statistics.fmean(gain[place] for gain in gains) for place in range(3))
    lines = [
        f"Mean gain over {len(gains)} runs: one shot {once:.2f}, rounds {most:.2f}, as the guard ends them {kept:.2f}."
    ]
    for place, what in ((1, "Rounds at their best"), (2, "Rounds as the guard ends them")):
        ahead = [gain[place] - gain[0] for gain in gains]
        twice = [gain[place] - 2 * gain[0] for gain in gains]
        (low, high), (lower, upper) = interval(ahead), interval(twice)
        lines.append(
            f"{what}: {statistics.fmean(ahead):+.2f} ({low:+.2f} to {high:+.2f}) over one shot; over twice its gain "
            f"{statistics.fmean(twice):+.2f} ({lower:+.2f} to {upper:+.2f}), paired, 95%."
        )
    kept_fit = sum(stop[0] for stop in stops)
    lines.append(
        f"The guard: {kept_fit} of {len(stops)} ended within two points of the base's fit; it gave away "
        f"{statistics.fmean(stop[1] for stop in stops):.2f} of what the best round that keeps the fit had."
    )
    return lines


def _looks(place: Path) -> list[Look]:
    return json.loads(place.read_text(encoding="utf-8"))["looks"] if place.exists() else []
