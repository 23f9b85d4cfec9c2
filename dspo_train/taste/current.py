"""What is known of the taste behind each of many sets while people vote: fitted beside them, and kept."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..exceptions import DspoError
from ..preferences import Guide, PreferenceStore
from .assessment import FEWEST
from .kept import FOLDER
from .knowing import known
from .questions import most_telling
from .standing import ranked
from .summary import find_summary, note_summary, summary_of

log = logging.getLogger("dspo")

EVERY = 5
"""Clicks between two fits while somebody votes; a tenth of them, once that is more."""
_FITS = 16  # kept; about 100 bytes for each pair of images of a prompt

Told = Callable[[str, "dict[str, Any] | None"], None]


@dataclass(frozen=True)
class SetFit:
    """What a fit told, and of what it was made.

    Attributes:
        guide: None with too few clicks to be of use.
        summary: see `summary_of`; None where nothing is known, as without features.
        ranked: the images with features, the best first, with the `standing` of each.
    """

    set_id: str
    stamp: int | None
    lines: int
    clicks: int
    guide: Guide | None = None
    summary: dict[str, Any] | None = None
    ranked: tuple[tuple[str, float], ...] = field(default=(), repr=False)


class CurrentTastes:
    """One fit per set; may be used by any number of threads. A fit takes about a second.

    Args:
        opened: gives the store of a folder.
        told: called with the name of a set and its summary after every fit, in the thread that made it.
    """

    def __init__(self, opened: Callable[[Path], PreferenceStore], told: Told) -> None:
        self._opened, self._told = opened, told
        self._fits: OrderedDict[Path, SetFit] = OrderedDict()
        self._waiting: OrderedDict[Path, str] = OrderedDict()  # sets to be fitted, with their names
        self._worker: threading.Thread | None = None
        self._lock = threading.Lock()
        self._fitting = threading.Lock()  # one at a time: each takes all the cores that it gets

    def guide(self, name: str, store: PreferenceStore) -> Guide | None:
        """By the latest fit, which may be a few clicks old; another one is begun if it is older. Never waits."""
        stamp = _stamp(store.folder)
        if stamp is None:
            return None
        fit = self._latest(store)
        if fit is None or fit.stamp != stamp or abs(store.clicks - fit.clicks) >= max(EVERY, fit.clicks // 10):
            self._begin(name, store.folder)
        return fit and fit.guide

    def fresh(self, name: str, store: PreferenceStore) -> SetFit | None:
        """Of all that is in the set now; waits for it. None without features."""
        if _stamp(store.folder) is None:
            return None
        with self._fitting:
            fit = self._latest(store)
            if fit is not None and (fit.lines, fit.stamp) == (store.lines, _stamp(store.folder)):
                return fit
            fit = _fitted(store)
            with self._lock:
                self._fits[store.folder] = fit
                self._fits.move_to_end(store.folder)
                while len(self._fits) > _FITS:
                    self._fits.popitem(last=False)
        _note(store.folder, fit)
        self._told(name, fit.summary)
        return fit

    def summary(self, name: str, folder: Path) -> dict[str, Any] | None:
        """The latest, for a list of sets; as noted in its folder. Where there is none, a fit is begun. Never waits."""
        stamp = _stamp(folder)
        if stamp is None:
            return None
        with self._lock:
            fit = self._fits.get(folder)
        if fit is not None and fit.stamp == stamp:
            return fit.summary
        found = find_summary(folder)
        if found is None:
            self._begin(name, folder)
        return found

    def _latest(self, store: PreferenceStore) -> SetFit | None:
        with self._lock:
            fit = self._fits.get(store.folder)
        return fit if fit is not None and fit.set_id == store.id else None

    def _begin(self, name: str, folder: Path) -> None:
        with self._lock:
            self._waiting[folder] = name
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="dspo-taste", daemon=True)
                self._worker.start()

    def _work(self) -> None:
        """Fit what waits, one set after another."""
        while True:
            with self._lock:
                if not self._waiting:
                    self._worker = None
                    return
                folder, name = next(iter(self._waiting.items()))
            try:
                self.fresh(name, self._opened(folder))
            except Exception:  # voting goes on without it
                log.exception("the taste of %s could not be fitted", folder)
            finally:
                with self._lock:
                    self._waiting.pop(folder, None)


def _stamp(folder: Path) -> int | None:
    """Changes with every file of features that is added; None without any."""
    try:
        return (folder / FOLDER).stat().st_mtime_ns
    except OSError:
        return None


def _fitted(store: PreferenceStore) -> SetFit:
    """What was fitted, or why not in the log: it is not tried again until there is something new."""
    made = SetFit(store.id, _stamp(store.folder), store.lines, store.clicks)
    try:
        found, decided = known(store, store.folder), store.progress().wins
    except (DspoError, ValueError) as error:  # the second: features that do not fit together
        log.warning("%s: the taste is not fitted: %s", store.folder, error)
        return made
    if found is None:
        return made
    groups = [group.names for group in store.groups()]
    guide = most_telling(found.head, found.features, groups, made.clicks) if decided >= FEWEST else None
    order = ranked(found.head, found.features) if decided else ()
    return replace(made, guide=guide, summary=summary_of(found.assessment, decided), ranked=order)


def _note(folder: Path, fit: SetFit) -> None:
    if fit.summary is None:
        return
    try:
        note_summary(folder, fit.summary)
    except DspoError as error:  # a list of sets says less after a restart
        log.warning("%s", error)
