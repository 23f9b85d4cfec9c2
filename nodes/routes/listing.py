"""The sets and blind tests there are. A thousand of them are listed without reading each anew."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, cast

from ...dspo_train.evaluate.blind import LORA, arm_names, blind_result
from ...dspo_train.exceptions import DspoError
from ...dspo_train.files.titles import title_of
from ...dspo_train.pairs.discover import find_sets
from ...dspo_train.preferences import LOG_NAME, PreferenceStore
from ...dspo_train.preferences.recognise import is_collected
from ...dspo_train.preferences.snapshot import SetSnapshot
from .. import collecting, places
from ..collecting import Place
from ..set_tastes import tastes
from .opening import counts

log = logging.getLogger("dspo")

_PATIENCE = 1.0  # seconds of one request for logs that were never read; the rest are read in the next
_THUMBNAILS = 4
_WAITING = {"layout": "collected", "progress": None, "state": "unread", "thumbnails": []}

Row = dict[str, Any]
Stamp = tuple[int, int] | None


@dataclass(frozen=True)
class _Found:
    place: Place
    name: str
    folder: Path
    stamp: Stamp  # of its log; None without one
    updated: float


_known: dict[Path, tuple[Stamp, Row]] = {}


def sets() -> dict[str, Any]:
    """Newest first; a set that cannot be read is listed without progress.

    Returns:
        `sets`, and `more`: some are of the state "unread", so that asking again tells more.
    """
    found = sorted(_found(), key=lambda it: it.updated, reverse=True)
    end = time.monotonic() + _PATIENCE
    rows = [_with_taste(it, {**_about(it), **_contents(it, end)}) for it in found]
    present = {it.folder for it in found}
    for gone in [folder for folder in list(_known) if folder not in present]:
        _known.pop(gone, None)
    return {"sets": rows, "more": any(row["state"] == "unread" for row in rows)}


def _found() -> Iterator[_Found]:
    seen: set[str] = set()
    for root in places.dataset_roots():
        for name in find_sets(root):
            if name not in seen:  # of two with one name, the first root's is meant
                seen.add(name)
                yield _stamped("sets", name, root / name)
    for name in find_sets(places.blind_tests(), depth=1):
        yield _stamped("blind", name, places.blind_tests() / name)


def _stamped(place: Place, name: str, folder: Path) -> _Found:
    for file in (folder / LOG_NAME, folder):
        try:
            status = file.stat()
        except OSError:
            continue
        stamp = None if file is folder else (status.st_size, status.st_mtime_ns)
        return _Found(place, name, folder, stamp, status.st_mtime)
    return _Found(place, name, folder, None, 0.0)


def _about(it: _Found) -> Row:
    about: Row = {"place": it.place, "set": it.name, "updated": iso_time(it.updated)}
    if it.place == "blind":
        about["title"] = title_of(it.folder)
    else:
        about["example"] = it.folder.parent == places.EXAMPLES
    return about


def _contents(it: _Found, end: float) -> Row:
    """What is in it: as known, or read now if there is time."""
    if it.stamp is None:
        return _folder()
    stamp, row = _known.get(it.folder, (None, _WAITING))
    if stamp == it.stamp:
        return row
    if time.monotonic() > end:
        return row
    row = _read(it)
    _known[it.folder] = it.stamp, row
    return row


def _folder() -> Row:
    """Its files are looked at when its card is seen."""
    return {"layout": "folder", "progress": None, "state": "folder", "thumbnails": []}


def _with_taste(it: _Found, row: Row) -> Row:
    """`taste` where something is known of it; see `routes.tastes`."""
    votes = it.place == "sets" and (row["progress"] or {}).get("wins")
    taste = tastes().summary(it.name, it.folder.resolve()) if votes else None
    return {**row, "taste": taste} if taste else row


def _read(it: _Found) -> Row:
    unreadable = {"layout": "collected", "progress": None, "state": "unreadable", "thumbnails": []}
    try:
        if not is_collected(it.folder):
            return _folder()
        # An open store has read most of the log. A snapshot has all that is read here of one.
        opened = collecting.stores.opened(it.folder.resolve())
        return _described(it.place, opened or cast(PreferenceStore, SetSnapshot(it.folder)))
    except DspoError as error:
        log.warning("%s", error)
        return unreadable


def _described(place: Place, store: PreferenceStore) -> Row:
    progress = counts(store)
    answered, waiting, total = (progress[name] for name in ("answered", "open", "total"))
    state = "new" if not answered else "voted" if not waiting else "voting"
    finished = total > 0 and not waiting
    row = {"layout": "collected", "progress": progress, "state": state}
    if place == "sets":
        return {**row, "thumbnails": _thumbnails(store)}
    # The pictures of a test that is being judged are not shown, and neither is its result.
    if not finished:
        return {**row, "thumbnails": [], "result": None}
    result = blind_result(store)
    figures = {"rate": result.win_rate, "low": result.low, "high": result.high, "name": arm_names(store)[LORA]}
    return {**row, "thumbnails": _thumbnails(store), "result": figures}


def _thumbnails(store: PreferenceStore) -> list[str]:
    """Of the newest prompts, one image each; more of each where there are few prompts."""
    rows = [group.names for group in reversed(store.groups()[-_THUMBNAILS:])]
    turns = [names[turn] for turn in range(_THUMBNAILS) for names in rows if turn < len(names)]
    return list(dict.fromkeys(turns))[:_THUMBNAILS]


def iso_time(seconds: float) -> str:
    """In UTC, such as 2025-01-31T12:00:00Z."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
