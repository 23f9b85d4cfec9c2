"""Read parts of a run's reports without reading all: a long run has a hundred thousand of them."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

_NEAR = 16 * 1024  # bytes; a stretch this short is read in sequence
LATEST = 20  # reports that the warning considers
NEAR_ONE = 0.95  # an accuracy
NO_BETTER = 0.7  # an accuracy; a chance level of 50% and the noise of 20 steps of few pairs
MOSTLY = 0.9  # of the latest steps
HARM = 0.5  # of the drift: changes that learn something raise the winner's error by less, random ones by all of it
SPOILED = 0.4  # mean squared error; the target's variance is about 1, which is the error of predicting nothing

Report = Mapping[str, Any]


def reports_after(path: Path, step: int, limit: int) -> list[Report]:
    """The first `limit` reports after `step`, oldest first, found by bisection since steps ascend."""
    try:
        with path.open("rb") as file:
            file.seek(_line_start(file, step))
            return _read(file, step, limit)
    except FileNotFoundError:
        return []


def latest_reports(path: Path, count: int = LATEST) -> list[Report]:
    """The last `count` reports, oldest first."""
    length = 1024 * max(1, count)  # bytes; a report has about 400
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            while True:
                start = max(0, size - length)
                file.seek(start)
                if start:
                    file.readline()
                found = _read(file, -1, length)
                if len(found) >= count or start == 0:
                    return found[-count:]
                length *= 4
    except FileNotFoundError:
        return []


def winning_by_getting_worse(reports: Sequence[Mapping[str, Any]]) -> bool:
    """Does the model separate winners from losers by predicting both worse? `spoils` of the last 20 reports' means."""
    if len(reports) < LATEST:
        return False
    last = reports[-LATEST:]
    return spoils(_mean(last, "winner_change"), _mean(last, "accuracy"))


def worse_without_winning(reports: Sequence[Mapping[str, Any]]) -> bool:
    """Do the last 20 reports show winners predicted worse in nearly every step, and no better told from losers?

    If a prediction changes by e where r was left to learn, its error rises by |e|^2 - 2 e r, and |e|^2 is the drift: a
    change that has nothing to do with the target raises the error by all of the drift.
    """
    last = reports[-LATEST:]
    if len(last) < LATEST:
        return False
    rises = [report.get("winner_change") or 0.0 for report in last]
    change, drift, accuracy = (_mean(last, name) for name in ("winner_change", "drift", "accuracy"))
    often = sum(rise > 0 for rise in rises) >= MOSTLY * LATEST
    return often and change > 0 and change >= HARM * drift and accuracy <= NO_BETTER


def spoils(winner_change: float, accuracy: float) -> bool:
    """Is the winner's error above the reference's at an accuracy of 95% or more, or far above it at any accuracy?

    Slightly above can be the taste carried past the winners, as `dspo` does: on a known taste every image stayed intact
    at +0.09, and all but one in a hundred at +0.25. `diffusion_dpo` spoiled a tenth of them at +0.54 and a quarter at
    +0.61, with accuracies of 82% and 88%.
    """
    return winner_change > SPOILED or (winner_change > 0 and accuracy >= NEAR_ONE)


def plain(report: Mapping[str, Any]) -> Report:
    """A report for JSON, which has no NaN or infinity: they become None, also inside lists and mappings."""
    return {name: _plain(value) for name, value in report.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return plain(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _mean(reports: Sequence[Mapping[str, Any]], name: str) -> float:
    """The mean of a figure; NaN if any is missing or null."""
    values = [math.nan if report.get(name) is None else report[name] for report in reports]
    return (math.fsum if all(map(math.isfinite, values)) else sum)(values) / len(values)


def _line_start(file: BinaryIO, step: int) -> int:
    """Where to start reading: all reports after `step` begin there or later, with few earlier ones among them."""
    low, high = 0, file.seek(0, os.SEEK_END)
    while step > 0 and high - low > _NEAR:
        file.seek((low + high) // 2)
        file.readline()
        start = file.tell()
        found = _parsed(file.readline())
        if start >= high or found is None:
            break
        if found["step"] <= step:
            low = start
        else:
            high = start
    return low


def _read(file: BinaryIO, step: int, limit: int) -> list[Report]:
    found: list[Report] = []
    while len(found) < limit:
        report = _parsed(file.readline())
        if report is None:
            break
        if report["step"] > step:
            found.append(report)
    return found


def _parsed(line: bytes) -> Report | None:
    """The report in a line; None at the end of the file, and for a line that a crash truncated."""
    try:
        report = json.loads(line)
    except ValueError:
        return None
    return report if isinstance(report, dict) and type(report.get("step")) is int else None
