"""How far one setting is ahead of the others, seed by seed.

Runs of one seed draw the same pairs, timesteps and noise whatever the objective, so their difference is surer than
that of two means.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .summary import best_look, interval, reward
from .writing import condition

LEAST_SEEDS = 3
HEAD = ("ahead of", "seeds", "ahead with", "by hidden reward (95% over seeds)")


@dataclass(frozen=True)
class Lead:
    """Of one setting over another in one condition.

    Attributes:
        over: the other's label.
        ahead: number of seeds with more hidden reward than the other.
        mean, low, high: of the difference in hidden reward and its 95% interval, Student's t.
    """

    taste: str
    pairs: int
    flipped: float
    over: str
    seeds: int
    ahead: int
    mean: float
    low: float
    high: float


def leads(results: Iterable[dict[str, Any]], base: dict[str, Any], label: str) -> list[Lead]:
    """Of the setting of this label over every other that shares at least `LEAST_SEEDS` seeds; the closest first."""
    found: dict[tuple[str, int, float], dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for result in results:
        run = result["run"]
        gained = reward(best_look(result, base), run["taste"])
        found[(run["taste"], run["pairs"], run["flipped"])][result["label"]][run["seed"]] = gained
    lines = []
    for (taste, pairs, flipped), by_label in found.items():
        mine = by_label.pop(label, {})
        for other, theirs in by_label.items():
            gaps = [mine[seed] - theirs[seed] for seed in sorted(mine.keys() & theirs.keys())]
            if len(gaps) >= LEAST_SEEDS:
                ahead = sum(gap > 0 for gap in gaps)
                lines.append(
                    Lead(taste, pairs, flipped, other, len(gaps), ahead, statistics.fmean(gaps), *interval(gaps))
                )
    return sorted(lines, key=lambda lead: (lead.taste != "large_and_dark", -lead.pairs, lead.flipped, lead.mean))


def markdown(label: str, lines: Sequence[Lead]) -> str:
    """One table of all conditions."""
    text = [f"### `{label}`, seed by seed", "", "| | " + " | ".join(HEAD) + " |", "|" + "---|" * (len(HEAD) + 1)]
    for lead in lines:
        by = f"**{lead.mean:+.2f}** ({lead.low:+.2f} to {lead.high:+.2f})"
        text.append(f"| {condition(lead)} | {lead.over} | {lead.seeds} | {lead.ahead} | {by} |")
    return "\n".join([*text, ""])
