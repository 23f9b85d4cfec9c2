"""Training runs, active or ended, read from their folders; see `dspo_train.runs.folder` for their layout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import comfy.model_management as mm
import folder_paths

from ...dspo_train.exceptions import DatasetError
from ...dspo_train.files.names import inside
from ...dspo_train.files.titles import title_of
from ...dspo_train.runs.alarm import HELD_OUT, TRAINING, WITHOUT_WINNING
from ...dspo_train.runs.folder import RunFolder
from ...dspo_train.runs.overview import Overview, is_run, overview
from ...dspo_train.runs.reports import Report, plain, reports_after
from ...dspo_train.runs.standing import Standing
from ...dspo_train.runs.status import while_training
from .. import places
from ..fresh_clicks import open_clicks
from ..progress import going
from ..setting_inputs import in_graph
from .images import read, reduced
from .listing import iso_time
from .refusals import RefusedError
from .serve import ImageAnswer

_MOST = 5000  # reports per answer; the page asks again from the last
_SHOWN = ("step", "margin", "accuracy", "winner_change", "loser_change", "loss", "pairs_per_second", "seconds")
_HELD_OUT = "held_out_"
# of an alarm; the page words it in its own language
_KIND = {HELD_OUT: "held_out", TRAINING: "training", WITHOUT_WINNING: "without_winning"}


def listed() -> dict[str, Any]:
    """Newest first."""
    parent = places.runs()
    folders = [RunFolder(path) for path in parent.iterdir()] if parent.is_dir() else []
    found = [(folder, overview(folder)) for folder in folders if is_run(folder)]
    newest = sorted(found, key=lambda it: it[1].changed, reverse=True)
    return {"runs": [{**_row(folder, about), "title": title_of(folder.folder)} for folder, about in newest]}


def reports(run: str, since: int) -> dict[str, Any]:
    """The run's row, and the reports of the steps after `since`."""
    folder = _folder(run)
    about = overview(folder)
    return {
        **_row(folder, about),
        "reports": [_shown(report) for report in reports_after(folder.reports_file, since, _MOST)],
        "warning": in_graph(about.alarm) if about.alarm else None,
    }


def workflow(run: str) -> dict[str, Any]:
    """The graph that the run was made in; null if it was queued without one."""
    folder = _folder(run)
    try:
        found = json.loads(folder.workflow.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    return {"workflow": found if isinstance(found, Mapping) else None}


def stop(run: str) -> dict[str, Any]:
    """Interrupt what ComfyUI executes, if it is this run; its state is saved as by Cancel.

    Raises:
        RefusedError: 409 if it is not.
    """
    folder = _folder(run)
    if while_training(folder, mm.interrupt_current_processing):
        return {"run": run, "status": "stopping"}
    if overview(folder).status.state == "running":
        raise RefusedError(409, "This run was started by another program; stop it there.")
    raise RefusedError(409, "This run is not training now.")


def preview(run: str, file: str, size: int | None) -> ImageAnswer:
    """As drawn, or as WebP of at most `size` pixels per side."""
    path = inside(_folder(run).preview(0).parent, file, "the preview's name")
    if size is None:
        return ImageAnswer(read(path), "png")
    try:
        return ImageAnswer(reduced(path, size, path.stat().st_mtime_ns), "webp")
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror or error}); put the file back") from error


def _folder(run: str) -> RunFolder:
    folder = RunFolder(inside(places.runs(), run, "the run's name"))
    if not is_run(folder):
        raise DatasetError(f"there is no run {run!a}; refresh the list")
    return folder


def _row(folder: RunFolder, about: Overview) -> dict[str, Any]:
    name, rounds = folder.folder.name, about.rounds
    lora, file = places.new_lora(name if rounds is None or rounds.open else rounds.run.result.stem)
    running = about.status.state == "running"
    now = about if rounds is None or rounds.upcoming is None else overview(rounds.upcoming)  # the round under way
    return {
        "run": name,
        "state": about.status.state,
        "reason": about.status.reason or None,
        "finished": about.status.state == "finished",
        **{key: value or None for key, value in asdict(about.about).items()},
        "lora": lora if file.is_file() else None,
        **{key: getattr(about, key) for key in ("objective", "early", "resumes_from")},
        **{key: getattr(now, key) for key in ("step", "steps", "seconds_left")},
        "round": None if rounds is None else _round(name, rounds, running=running),
        "previews": list(about.previews),
        "learned": asdict(now.learned),
        "alarm": _KIND[about.alarm] if about.alarm else None,
        "updated": iso_time(about.changed),
    }


def _round(run: str, rounds: Standing, *, running: bool) -> dict[str, Any]:
    """Which round is trained or, where none is, was trained last or is kept; and the fresh clicks that are wanted."""
    if rounds.upcoming is not None:
        return going(rounds.number + 1)
    waits = rounds.open and not running
    name, wanted = open_clicks(run, Path(folder_paths.get_input_directory())) if waits else (None, 0)
    return {"number": rounds.number, "asked": rounds.asked, "going": False, "set": name, "open": wanted}


def _shown(report: Report) -> Report:
    return plain({name: value for name, value in report.items() if name in _SHOWN or name.startswith(_HELD_OUT)})
