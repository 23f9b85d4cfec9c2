"""How far an objective at its default is ahead of the others, seed by seed.

Runs of one seed draw the same pairs, timesteps and noise whatever the objective, so their difference is surer than
that of two means. Runs of different learning rates are not compared.
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
OWN = ""  # stands for the label of the objective at its default
HEAD = ("ahead of", "seeds", "ahead with", "by hidden reward (95% over seeds)")


@dataclass(frozen=True)
class Lead:
    """Of an objective over another setting in one condition.

    Attributes:
        lr: factor on the usual learning rate.
        over: the other's label.
        ahead: number of seeds with more hidden reward than the other.
        mean, low, high: of the difference in hidden reward and its 95% interval, Student's t.
    """

    taste: str
    pairs: int
    flipped: float
    lr: float
    over: str
    seeds: int
    ahead: int
    mean: float
    low: float
    high: float


def leads(results: Iterable[dict[str, Any]], base: dict[str, Any], objective: str) -> list[Lead]:
    """Of an objective at its default over every other that shares at least `LEAST_SEEDS` seeds; the closest first."""
    found: dict[tuple[str, int, float, float], dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for result in results:
        run = result["run"]
        lr = run["settings"].get("lr", 1)
        own = run["objective"] == objective and not run["settings"].keys() - {"lr"} and not run["options"]
        label = OWN if own else result["label"]
        gained = reward(best_look(result, base), run["taste"])
        found[(run["taste"], run["pairs"], run["flipped"], lr)][label][run["seed"]] = gained
    lines = []
    for where, by_label in found.items():
        own = by_label.pop(OWN, {})
        for other, theirs in by_label.items():
            gaps = [own[seed] - theirs[seed] for seed in sorted(own.keys() & theirs.keys())]
            if len(gaps) >= LEAST_SEEDS:
                ahead = sum(gap > 0 for gap in gaps)
                lines.append(Lead(*where, other, len(gaps), ahead, statistics.fmean(gaps), *interval(gaps)))
    return sorted(lines, key=lambda x: (x.taste != "large_and_dark", x.lr, -x.pairs, x.flipped, x.mean))


def markdown(title: str, lines: Sequence[Lead]) -> str:
    """One table of all conditions."""
    text = [f"### {title}", "", "| | " + " | ".join(HEAD) + " |", "|" + "---|" * (len(HEAD) + 1)]
    for lead in lines:
        where = condition(lead) + (f", learning rate x {lead.lr:g}" if lead.lr != 1 else "")
        by = f"**{lead.mean:+.2f}** ({lead.low:+.2f} to {lead.high:+.2f})"
        text.append(f"| {where} | {lead.over} | {lead.seeds} | {lead.ahead} | {by} |")
    return "\n".join([*text, ""])
