"""The reports of a run, read from where they are wanted: a long run has a hundred thousand of them."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

_NEAR = 16 * 1024  # bytes; a stretch this short is read through
LATEST = 20  # reports that the warning looks at
NEAR_ONE = 0.95  # of an accuracy
SPOILED = 0.4  # mean squared error; the target's variance is about 1, which is the error of predicting nothing

Report = Mapping[str, Any]


def reports_after(path: Path, step: int, limit: int) -> list[Report]:
    """The first `limit` reports of steps after `step`, oldest first; steps ascend, so the place is found by halving."""
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
    """Whether the model tells winners from losers by predicting both worse: `spoils` of the last 20 reports' means."""
    if len(reports) < LATEST:
        return False
    last = reports[-LATEST:]
    return spoils(_mean(last, "winner_change"), _mean(last, "accuracy"))


def spoils(winner_change: float, accuracy: float) -> bool:
    """Is the winner's error above the reference's at an accuracy of 95% or more, or far above it at any?

    A little above it can be the taste, carried past the winners, as `dspo` does: on a known taste it kept every
    picture with +0.09, and all but one in a hundred with +0.25. `diffusion_dpo` spoiled a tenth of them by +0.54, a
    quarter by +0.61, at accuracies of 82% and 88%.
    """
    return winner_change > SPOILED or (winner_change > 0 and accuracy >= NEAR_ONE)


def plain(report: Mapping[str, Any]) -> Report:
    """For JSON, which knows no NaN and no infinity: they become None, also inside lists and mappings."""
    return {name: _plain(value) for name, value in report.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return plain(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _mean(reports: Sequence[Mapping[str, Any]], name: str) -> float:
    """NaN where one is missing or null."""
    values = [math.nan if report.get(name) is None else report[name] for report in reports]
    return (math.fsum if all(map(math.isfinite, values)) else sum)(values) / len(values)


def _line_start(file: BinaryIO, step: int) -> int:
    """Where to read from: no report after `step` begins before it, and few up to `step` come after it."""
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
    """None at the end, and for a line that a crash cut short."""
    try:
        report = json.loads(line)
    except ValueError:
        return None
    return report if isinstance(report, dict) and type(report.get("step")) is int else None
