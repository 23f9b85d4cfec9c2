"""What lists show of a run, read from its folder without reading all its reports; unchanged folders are not read again.

about.json    {"set", "preset", "base", "parent"}: names for display, which determine nothing
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import files
from .alarm import alarm, reports_needed
from .folder import RunFolder
from .learning import Learned, learned, seconds_left
from .reports import Report, latest_reports
from .standing import Standing, standing_of_rounds
from .status import RunStatus, status_of

_KEPT = 5000  # runs
_NAMES = ("set", "preset", "base", "parent")

_known: OrderedDict[Path, tuple[Any, _Facts]] = OrderedDict()


@dataclass(frozen=True)
class About:
    """Names for display; empty if unknown.

    Attributes:
        set: of pairs.
        base: the model.
        parent: the LoRA that the run starts from, or those on the wired model.
    """

    set: str = ""
    preset: str = ""
    base: str = ""
    parent: str = ""


@dataclass(frozen=True)
class Overview:
    """A run in a list.

    Attributes:
        early: did it stop before its last step because held-out pairs improved no further?
        step: the last one reported; 0 before the first.
        steps: of the whole run; None if its settings cannot be read.
        resumes_from: the step that a resumed run continues after.
        seconds_left: of a running one; None if unknown.
        previews: file names, oldest first.
        alarm: see `alarm.alarm`.
        rounds: None if there is none after the first, of which everything else is told.
        changed: when something was last written, seconds since 1970.
    """

    status: RunStatus
    about: About
    early: bool
    step: int
    steps: int | None
    resumes_from: int
    seconds_left: float | None
    objective: str | None
    previews: tuple[str, ...]
    learned: Learned
    alarm: str | None
    rounds: Standing | None
    changed: float


def is_run(folder: RunFolder) -> bool:
    return folder.identity.is_file() or folder.request.is_file()


def write_about(folder: RunFolder, about: About) -> None:
    """
    Raises:
        RunError: the disk is full.
    """
    values = {name: getattr(about, name) for name in _NAMES}
    files.write_json(folder.about, {name: value for name, value in values.items() if value})


def overview(folder: RunFolder) -> Overview:
    facts = _facts(folder)
    latest = facts.latest[-1] if facts.latest else {}
    step, steps = latest.get("step", 0), facts.settings.get("steps")
    steps = steps if isinstance(steps, int) else None
    early, rounds = bool(latest.get("stopped")), standing_of_rounds(folder.folder)
    trained = facts.has_result and (early or (steps is not None and step >= steps))
    status = _status(folder, facts, rounds, trained=trained)
    left = None if steps is None or status.state != "running" else seconds_left(facts.latest, steps)
    return Overview(
        status=status,
        about=facts.about,
        early=early,
        step=step,
        steps=steps,
        resumes_from=facts.checkpoint,
        seconds_left=left,
        objective=facts.settings.get("objective"),
        previews=facts.previews,
        learned=learned(facts.latest),
        alarm=alarm(facts.latest),
        rounds=rounds,
        changed=facts.changed,
    )


def _status(folder: RunFolder, facts: _Facts, rounds: Standing | None, *, trained: bool) -> RunStatus:
    """As recorded, but for what the files themselves show."""
    said = status_of(folder)
    if said is not None and said.state == "running":  # to the very end, when the LoRA is where it belongs
        return said
    if trained and (rounds is None or not rounds.open):
        return RunStatus("finished", since=said.since if said is not None else "")
    if said is not None and said.state != "finished":
        return said
    if trained and rounds is not None:  # by a program that records each round's training by itself
        within = None if rounds.upcoming is None else status_of(rounds.upcoming)
        return within if within is not None and within.state == "running" else RunStatus("stopped")
    # recorded nothing, or its result was removed: after Cancel the last checkpoint is that of the last step
    step = facts.latest[-1]["step"] if facts.latest else 0
    return RunStatus("stopped" if facts.checkpoint == step else "crashed")


@dataclass(frozen=True)
class _Facts:
    """What is read from files."""

    settings: Mapping[str, Any]
    about: About
    latest: list[Report]
    previews: tuple[str, ...]
    checkpoint: int
    has_result: bool
    changed: float


def _facts(folder: RunFolder) -> _Facts:
    """From the last look, unless a file has changed since."""
    key, stamp = folder.folder, _stamp(folder)
    if key in _known and _known[key][0] == stamp:
        return _known[key][1]
    facts = _read(folder, changed=max((mark[0] / 1e9 for mark in stamp if mark), default=0.0))
    _known[key] = stamp, facts
    while len(_known) > _KEPT:
        _known.popitem(last=False)
    return facts


def _stamp(folder: RunFolder) -> tuple[tuple[int, int] | None, ...]:
    """Time of writing in nanoseconds, and size, of everything that is read; None for what is not there."""
    inner = (folder.preview(0).parent, folder.folder / "checkpoints")
    paths = (folder.reports_file, folder.identity, folder.request, folder.about, folder.result, *inner)
    return tuple(_mark(path) for path in paths)


def _mark(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _read(folder: RunFolder, changed: float) -> _Facts:
    identity, request = files.read_json_object(folder.identity), files.read_json_object(folder.request)
    settings = _mapping(identity.get("config")) or _mapping(request.get("settings"))
    checkpoints = folder.checkpoints.steps()
    return _Facts(
        settings=settings,
        about=_about(files.read_json_object(folder.about), identity, request),
        latest=latest_reports(folder.reports_file, reports_needed(_every(settings))),
        previews=tuple(path.name for path in folder.previews()),
        checkpoint=checkpoints[-1][0] if checkpoints else 0,
        has_result=folder.result.is_file(),
        changed=changed,
    )


def _about(said: Mapping[str, Any], identity: Mapping[str, Any], request: Mapping[str, Any]) -> About:
    """What was recorded for display; of a run that recorded nothing, what its other files tell."""
    pairs = request.get("pairs")
    told = {
        "set": pairs[0] if isinstance(pairs, list) and pairs else None,
        "base": _mapping(identity.get("base")).get("name"),
        "parent": _mapping(identity.get("refine")).get("name"),
    }
    found = {name: said.get(name) or told.get(name) for name in _NAMES}
    return About(**{name: value for name, value in found.items() if isinstance(value, str)})


def _every(settings: Mapping[str, Any]) -> int:
    """Steps between measurements; 1 if there are none."""
    held_out = _mapping(settings.get("held_out"))
    every = held_out.get("every") if held_out.get("share") else None
    return every if isinstance(every, int) and every > 0 else 1


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
