"""What is told of a taste beside a set, so that a list of many sets needs no fit."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from .. import files
from .assessment import ENOUGH, Assessment

SUMMARY_FILE = ".taste.json"
"""Beside the log; losing it costs a fit and nothing else."""


def summary_of(assessment: Assessment, clicks: int) -> dict[str, Any]:
    """Plain values for a page; NaN becomes None.

    Args:
        clicks: that preferred one image to another.

    Returns:
        `accuracy`, `low` and `high` as shares, `more`, `outlook`, `clicks`, and `enough`: about as many make an
        estimate worth telling.
    """
    shares = {name: getattr(assessment, name) for name in ("accuracy", "low", "high")}
    known = {name: float(share) if math.isfinite(share) else None for name, share in shares.items()}
    return {**known, "more": assessment.more, "outlook": assessment.outlook, "clicks": clicks, "enough": ENOUGH}


def find_summary(folder: Path) -> dict[str, Any] | None:
    """What was noted of a set; None if nothing was, or it cannot be read."""
    return files.read_json_object(folder / SUMMARY_FILE) or None


def note_summary(folder: Path, summary: dict[str, Any]) -> None:
    """
    Raises:
        RunError: the file cannot be written.
    """
    files.write_json(folder / SUMMARY_FILE, summary)
