"""Every look at every run, as it is kept in results.csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dspo_train import files
from dspo_train.rounds.guard import Check

from .looks import fit, reward
from .tastes import Taste
from .world import ONE_SHAPE, World

FILE = Path(__file__).with_name("results.csv")
BASE = "base"  # the run that is none: the untrained model, at step 0 of every seed
_COLUMNS = (
    "run", "taste", "seed", "step or round", "reward", "fit", "diversity",
    "taste model accuracy", "prompt fit lost", "spread", "distance",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """What 96 test images showed after a step or a round; `check` is what the guard saw before the round's labels."""

    run: str
    taste: int
    seed: int
    at: int
    reward: float
    fit: float
    diversity: float
    check: Check

    def cells(self) -> list[str]:
        signs = self.check.to_dict().values()
        numbers = [self.reward, self.fit, self.diversity, *signs]
        return [
            self.run,
            str(self.taste),
            str(self.seed),
            str(self.at),
            *("" if x is None else f"{x:.4f}" for x in numbers),
        ]

    @classmethod
    def of(cls, cells: list[str]) -> Row:
        run, taste, seed, at, *numbers = cells
        reward, fit, diversity, *signs = (float(x) if x else None for x in numbers)
        assert reward is not None and fit is not None and diversity is not None
        return cls(run, int(taste), int(seed), int(at), reward, fit, diversity, Check(*signs))


def rows_of(result: Mapping[str, Any], world: World = ONE_SHAPE) -> list[Row]:
    """Of a run as `one_shot` and `in_rounds` keep it."""
    return [_row(result["name"], Taste(result["taste"], world), result["seed"], look) for look in result["looks"]]


def base_row(look: Mapping[str, Any], taste: int, world: World = ONE_SHAPE) -> Row:
    return _row(BASE, Taste(taste, world), 0, look)


def _row(run: str, taste: Taste, seed: int, look: Mapping[str, Any]) -> Row:
    at, check = look.get("round", look.get("step", 0)), Check.from_dict(look.get("check", {}))
    return Row(run, taste.number, seed, at, reward(look, taste), fit(look), look["spread"], check)


def read(place: Path = FILE) -> list[Row]:
    with place.open(encoding="utf-8", newline="") as file:
        _, *rows = csv.reader(file)
    return [Row.of(cells) for cells in rows]


def write(rows: Iterable[Row], place: Path = FILE) -> None:
    """Put these runs in, in place of earlier looks at the same ones."""
    new = list(rows)
    seen = {(row.run, row.taste) for row in new}
    kept = [row for row in read(place) if (row.run, row.taste) not in seen] if place.exists() else []
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_COLUMNS)
    table.writerows(row.cells() for row in sorted([*kept, *new], key=lambda row: (row.run, row.taste, row.at)))
    files.write_text(place, text.getvalue())
