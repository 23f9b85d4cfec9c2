"""The one collecting that may run at a time, in a thread of its own, with its progress sent to every page."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from ..dspo_train import files
from ..dspo_train.exceptions import DspoError
from ..dspo_train.pairs.albums import NO_PROMPT, Album, AlbumGroup
from ..dspo_train.pairs.gathering import CancelledError, GatherReport, GatherSchedule, Pick, gather
from . import collecting, gather_albums, gather_sources
from .gather_sources import Source

log = logging.getLogger("dspo")

State = Literal["running", "done", "cancelled", "failed"]
_OFTEN = 0.25  # seconds between two events


@dataclass(frozen=True)
class Choice:
    """What is taken of a group: all of it but `images`, or `images` alone; under `prompt`, if the group has none."""

    whole: bool
    images: frozenset[str]
    prompt: str = ""


@dataclass(frozen=True)
class Order:
    """What to collect.

    Attributes:
        everything: also the groups that `choices` does not name.
        choices: by the group's key.
    """

    source: Source
    folder: str
    set: str
    target: Path
    schedule: GatherSchedule
    everything: bool
    choices: Mapping[str, Choice]


@dataclass
class Job:
    """`pairs`: questions that came in. `reason` of a failure: `full`, `locked` or `failed`."""

    order: Order
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    state: State = "running"
    done: int = 0
    total: int = 0
    pairs: int = 0
    reason: str | None = None
    report: GatherReport = field(default_factory=GatherReport)
    cancelled: threading.Event = field(default_factory=threading.Event)

    def described(self) -> dict[str, Any]:
        counts = {name: getattr(self.report, name) for name in ("groups", "added", "already", "alone", "unreadable")}
        place = {"job": self.id, "set": self.order.set, "source": self.order.source}
        told = {"state": self.state, "done": self.done, "total": self.total, "pairs": self.pairs, "reason": self.reason}
        return {**place, **told, **counts}


class Jobs:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._job: Job | None = None

    def latest(self) -> Job | None:
        return self._job

    def start(self, order: Order) -> Job | None:
        """None while another one runs."""
        with self._lock:
            if self._job is not None and self._job.state == "running":
                return None
            self._job = job = Job(order)
        threading.Thread(target=_run, args=(job,), name="dspo-gather", daemon=True).start()
        return job

    def cancel(self, id: str) -> bool:
        """Whether that one runs; it ends at the next image, and keeps the groups that are complete."""
        job = self._job
        if job is None or job.id != id or job.state != "running":
            return False
        job.cancelled.set()
        return True


jobs = Jobs()


def _run(job: Job) -> None:
    try:
        _collect(job)
        job.state = "done"
    except CancelledError:
        job.state = "cancelled"
    except DspoError as error:
        log.warning("collecting into %s: %s", job.order.set, error)
        job.state, job.reason = "failed", _reason(error)
    except Exception:
        log.exception("collecting into %s failed", job.order.set)
        job.state, job.reason = "failed", "failed"
    collecting.send("gather", **job.described())
    if job.report.added:
        _announce(job)


def _collect(job: Job) -> None:
    order = job.order
    picks = picked(gather_albums.album(order.source, order.folder), order)
    job.total = len(picks)
    told = [0.0]

    def progress(done: int, total: int) -> None:
        job.done = done
        if job.cancelled.is_set():
            raise CancelledError
        if time.monotonic() - told[0] > _OFTEN:
            told[0] = time.monotonic()
            collecting.send("gather", **job.described())

    before = _questions(order.target)
    try:
        gather(
            order.target,
            picks,
            order.schedule,
            open_store=collecting.stores.get,
            origin=order.source,
            progress=progress,
            report=job.report,
        )
    finally:
        gather_sources.index.save()
        with contextlib.suppress(DspoError):
            job.pairs = _questions(order.target) - before
        if order.source == "dropped":
            _clear_tray(job.report.taken)


def picked(album: Album, order: Order) -> list[Pick]:
    """The chosen images, of groups in the album's order."""
    return [pick for group in album.groups for pick in _of_group(group, order)]


def _of_group(group: AlbumGroup, order: Order) -> Iterator[Pick]:
    choice = order.choices.get(group.key)
    if choice is None:
        if not order.everything or group.key == NO_PROMPT or len(group.images) < 2:
            return
        choice = Choice(True, frozenset())
    prompt = group.prompt or choice.prompt
    for image in group.images:
        if prompt and (image.file.name in choice.images) != choice.whole:
            index, at = gather_sources.index, (image.key, image.file)
            pixels, learned = index.pixels(*at), partial(index.note_pixels, *at)
            yield Pick(Path(image.file.path), prompt, image.recipe, image.size, pixels, learned)


def _questions(folder: Path) -> int:
    return collecting.stores.get(folder).progress().total if folder.exists() else 0


def _clear_tray(taken: Sequence[Path]) -> None:
    """Dropped files are in the set now."""
    for path in taken:
        with contextlib.suppress(OSError):
            path.unlink()


def _announce(job: Job) -> None:
    try:
        waiting = collecting.stores.get(job.order.target).progress().open
    except DspoError as error:
        log.warning("%s", error)
        return
    collecting.send("collected", place="sets", set=job.order.set, added=job.pairs, open=waiting)


def _reason(error: DspoError) -> str:
    cause = error.__cause__
    if not isinstance(cause, OSError):
        return "failed"
    return "full" if files.is_full(cause) else "locked"
