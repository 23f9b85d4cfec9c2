"""The sets and blind tests there are."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ...dspo_train.exceptions import DspoError
from ...dspo_train.pairs.discover import find_sets
from ...dspo_train.preferences import LOG_NAME
from ...dspo_train.preferences.recognise import is_collected
from .. import collecting, places
from ..collecting import Place
from .opening import counts

log = logging.getLogger("dspo")


def sets() -> dict[str, Any]:
    """Newest first; a set that cannot be read is listed without progress."""
    found = [_described(place, name, folder) for place, name, folder in _found()]
    return {"sets": sorted(found, key=lambda it: it["updated"], reverse=True)}


def _found() -> Iterator[tuple[Place, str, Path]]:
    seen: set[str] = set()
    for root in places.dataset_roots():
        for name in find_sets(root):
            if name not in seen:  # of two with one name, the first root's is meant
                seen.add(name)
                yield "sets", name, root / name
    for name in find_sets(places.blind_tests(), depth=1):
        yield "blind", name, places.blind_tests() / name


def _described(place: Place, name: str, folder: Path) -> dict[str, Any]:
    log_file = folder / LOG_NAME
    try:
        collected = is_collected(folder)
    except DspoError as error:
        log.warning("%s", error)
        collected = True
    progress = _progress(folder) if collected else None
    return {
        "place": place,
        "set": name,
        "layout": "collected" if collected else "folder",
        "progress": progress,
        "updated": iso_time(log_file if collected else folder),
    }


def _progress(folder: Path) -> dict[str, Any] | None:
    try:
        return counts(collecting.stores.get(folder.resolve()))
    except DspoError as error:
        log.warning("%s", error)
        return None


def iso_time(path: Path) -> str:
    """When the file was written, in UTC, such as 2025-01-31T12:00:00Z; 1970 if it is gone."""
    try:
        seconds = path.stat().st_mtime
    except OSError:
        seconds = 0.0
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
