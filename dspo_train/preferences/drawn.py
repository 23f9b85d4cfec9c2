"""Which groups of a set came from which part of a graph: what is there already need not be drawn again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .. import files

FILE = ".drawn.json"
"""Beside the log; losing it costs a drawing and nothing else."""
_MOST = 256  # parts that are remembered, the latest last


@dataclass(frozen=True)
class DrawnPart:
    """What a part of a graph brought: ids of groups, and how many of its images were left out."""

    groups: tuple[str, ...]
    dropped: int = 0


def find_drawn(folder: Path, set_id: str, part: str) -> DrawnPart | None:
    """What was noted about that part for this very set; None if nothing was, or it cannot be read."""
    row = _noted(folder, set_id).get(part, {})
    try:
        return DrawnPart(tuple(map(str, row["groups"])), int(row["dropped"]))
    except (TypeError, KeyError, ValueError):
        return None


def note_drawn(folder: Path, set_id: str, part: str, drawn: DrawnPart) -> None:
    """
    Raises:
        RunError: the file cannot be written.
    """
    rows = _noted(folder, set_id)
    rows.pop(part, None)
    rows[part] = asdict(drawn)
    latest = dict(list(rows.items())[-_MOST:])
    files.write_text(folder / FILE, json.dumps({"set": set_id, "parts": latest}))


def _noted(folder: Path, set_id: str) -> dict[str, Any]:
    found = files.read_json_object(folder / FILE)
    parts = found.get("parts") if found.get("set") == set_id else None
    return parts if isinstance(parts, dict) else {}
