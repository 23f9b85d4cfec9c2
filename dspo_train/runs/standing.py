"""Where the rounds of a run stand, as its folder shows without loading anything; see `rounds.course` for its layout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .. import files
from .folder import RunFolder

ROUNDS = "rounds"  # in the run's folder
BEGUN, ENDING = "asked.json", "end.json"  # there


@dataclass(frozen=True)
class Standing:
    """
    Attributes:
        number: of the round that is kept; before the end, of the last one that is trained.
        run: of that round.
        asked: for how many rounds; None before the end.
        upcoming: the run of the round after it, once its training has begun; None at the end.
    """

    number: int
    run: RunFolder
    asked: int | None = None
    upcoming: RunFolder | None = None

    @property
    def open(self) -> bool:
        return self.asked is None


def run_of_round(run: Path, number: int) -> RunFolder:
    """The first round's is the run itself."""
    return RunFolder(run if number == 1 else run / ROUNDS / str(number) / f"{run.name}-r{number}")


def standing_of_rounds(run: Path) -> Standing | None:
    """None without rounds after the first."""
    place = run / ROUNDS
    if not (place / BEGUN).is_file():
        return None
    told = files.read_json_object(place / ENDING)
    number, asked = told.get("round"), told.get("asked")
    if isinstance(number, int) and isinstance(asked, int):
        return Standing(number, run_of_round(run, number), asked)
    number = 1
    while run_of_round(run, number + 1).result.is_file():
        number += 1
    upcoming = run_of_round(run, number + 1)
    begun = upcoming.reports_file.is_file()
    return Standing(number, run_of_round(run, number), upcoming=upcoming if begun else None)
