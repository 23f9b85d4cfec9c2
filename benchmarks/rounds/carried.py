"""What each sharpness gains on each model, as docs/rounds.md shows it: `python -m benchmarks.rounds.carried`."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from . import results
from .carry_over import CARRIED, SETTINGS
from .one_shot import say
from .results import Row
from .summing import best
from .tastes import TUNED

SHARPNESS = tuple(settings["objective_args.sharpness"] for settings in SETTINGS if "loss.unit" not in settings)


@dataclass(frozen=True)
class Carried:
    """A model in carry_over.csv.

    Attributes:
        title: for people.
        model, kind: as `carry_over` names its runs.
        rest: of a run's name, after the sharpness.
    """

    title: str
    model: str
    kind: str
    rest: str

    def name(self, taste: int, sharpness: float) -> str:
        return f"{self.model} {self.kind} taste{taste}-dspo-sharpness{sharpness}-{self.rest}"


MODELS = (
    Carried("embedded", "embedded", "v", "errorsmodel-word_budget0.1-100-s0"),
    Carried("half as wide, noise", "smaller", "as v", "errorsv-word_budget0.1-100-s0"),
    Carried("four times as wide", "wider", "as v", "errorsv-word_budget0.1-width89-100-s0"),
    Carried("128 pixels, two shapes", "larger", "as v", "errorsv-word_budget0.1-100-s0"),
)


def written(rows: Sequence[Row]) -> str:
    """Markdown: the mean over the tastes that were tried with every sharpness."""
    head = " | ".join(f"sharpness {sharpness:g}" for sharpness in sorted(SHARPNESS))
    return "\n".join([
        f"| model | tastes | base | {head} |",
        "|" + "---|" * (3 + len(SHARPNESS)),
        *(line for each in MODELS if (line := _line(each, rows))),
    ])  # fmt: skip


def _line(each: Carried, rows: Sequence[Row]) -> str:
    looks: dict[tuple[int, float], list[Row]] = {}
    for taste in TUNED:
        for sharpness in SHARPNESS:
            looks[taste, sharpness] = [row for row in rows if row.run == each.name(taste, sharpness)]
    tastes = [taste for taste in TUNED if all(looks[taste, sharpness] for sharpness in SHARPNESS)]
    if not tastes:
        return ""
    bases = {row.taste: row for row in rows if row.run == f"{each.model} base"}
    cells = []
    for sharpness in sorted(SHARPNESS):
        gains, ends = [], []
        for taste in tastes:
            found, base = looks[taste, sharpness], bases[taste]
            gains.append(best(found, base).reward - base.reward)
            ends.append(found[-1])
        last, fit = statistics.fmean(row.reward for row in ends), statistics.fmean(row.fit for row in ends)
        cells.append(f"{statistics.fmean(gains):+.2f}, ends at {last:+.2f} with {fit:.0%}")
    numbers = ", ".join(map(str, tastes))
    fit = statistics.fmean(bases[taste].fit for taste in tastes)
    return f"| {each.title} | {numbers} | {fit:.0%} | {' | '.join(cells)} |"


if __name__ == "__main__":
    say(written(results.read(CARRIED)))
