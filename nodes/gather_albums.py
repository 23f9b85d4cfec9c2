"""The albums that the panel turns pages in."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass

from ..dspo_train.pairs.albums import Album, read_album
from . import gather_sources
from .gather_sources import Source, SourceFiles

_PATIENCE = 2.0  # seconds of reading per request; the page asks again until all is read
_KEPT = 600.0  # seconds that further pages come from one listing
_MOST_FOLDERS = 500


@dataclass(frozen=True)
class Shown:
    """An album, the folders of its source with the number of images below each, and what was found there when."""

    album: Album
    folders: dict[str, int]
    found: SourceFiles
    made: float


_lock = threading.Lock()
_shown: dict[tuple[Source, str], Shown] = {}


def shown(source: Source, folder: str, *, anew: bool) -> Shown:
    """
    Args:
        anew: look at the folder again, unless the last look was not read to its end: then read on for a moment.
            Otherwise an earlier listing is used if there is one, so that its pages fit together.

    Raises:
        DatasetError, ConfigError: see `gather_sources.check_folder`.
    """
    gather_sources.check_folder(source, folder)
    key = (source, folder)
    with _lock:
        kept = _shown.get(key)
        if kept is not None and time.monotonic() - kept.made > _KEPT:
            kept = None
        if kept is not None and not anew:
            return kept
        reading = kept is not None and kept.album.read < kept.album.total
        found = kept.found if kept is not None and reading else gather_sources.files_of(source)
        made = kept.made if kept is not None and reading else time.monotonic()
        _shown.clear()
        _shown[key] = Shown(_album(source, folder, found, _PATIENCE), _folders(source, found), found, made)
        return _shown[key]


def album(source: Source, folder: str) -> Album:
    """All of it, read to its end."""
    return _album(source, folder, gather_sources.files_of(source), float("inf"))


def _album(source: Source, folder: str, found: SourceFiles, seconds: float) -> Album:
    place = "" if source == "history" else source
    files = gather_sources.below(folder, found.files)
    return read_album(gather_sources.index, files, place, seconds, found.recipes)


def _folders(source: Source, found: SourceFiles) -> dict[str, int]:
    if source not in ("output", "input"):
        return {}
    counts: Counter[str] = Counter()
    for file in found.files:
        parts = file.name.split("/")[:-1]
        counts.update("/".join(parts[:depth]) for depth in range(1, len(parts) + 1))
    return dict(sorted(counts.items())[:_MOST_FOLDERS])
