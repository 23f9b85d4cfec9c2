"""Training runs, active or finished, read from their folders; see `dspo_train.runs.folder` for their layout."""

from __future__ import annotations

import json
from typing import Any

from ...dspo_train.exceptions import DatasetError
from ...dspo_train.files.names import inside
from ...dspo_train.runs.alarm import HELD_OUT, TRAINING, alarm, reports_needed
from ...dspo_train.runs.folder import RunFolder
from ...dspo_train.runs.reports import Report, latest_reports, plain, reports_after
from .. import places
from ..setting_inputs import in_graph
from .images import read
from .listing import iso_time
from .serve import ImageAnswer

_MOST = 5000  # reports per answer; the page asks again from the last
_SHOWN = ("step", "margin", "accuracy", "winner_change", "loser_change", "loss", "pairs_per_second", "seconds")
_HELD_OUT = "held_out_"
_KIND = {HELD_OUT: "held_out", TRAINING: "training"}  # of an alarm; the page words it in its own language


def listed() -> dict[str, Any]:
    """Newest first."""
    parent = places.runs()
    folders = [RunFolder(path) for path in parent.iterdir()] if parent.is_dir() else []
    found = [_described(folder) for folder in folders if _is_run(folder)]
    return {"runs": sorted(found, key=lambda it: it["updated"], reverse=True)}


def reports(run: str, since: int) -> dict[str, Any]:
    """The reports of the steps after `since`."""
    folder = _folder(run)
    about = _described(folder)
    warning = alarm(latest_reports(folder.reports_file, reports_needed(_every(folder))))
    return {
        **{name: about[name] for name in ("run", "step", "steps", "finished", "stopped")},
        "reports": [_shown(report) for report in reports_after(folder.reports_file, since, _MOST)],
        "previews": [path.name for path in folder.previews()],
        "warning": in_graph(warning) if warning else None,
        "alarm": _KIND[warning] if warning else None,
    }


def preview(run: str, file: str) -> ImageAnswer:
    return ImageAnswer(read(inside(_folder(run).preview(0).parent, file, "the preview's name")), "png")


def _folder(run: str) -> RunFolder:
    folder = RunFolder(inside(places.runs(), run, "the run's name"))
    if not _is_run(folder):
        raise DatasetError(f"there is no run {run!a}; refresh the list")
    return folder


def _is_run(folder: RunFolder) -> bool:
    return folder.identity.is_file() or folder.request.is_file()


def _described(folder: RunFolder) -> dict[str, Any]:
    file = folder.reports_file
    settings, latest = _settings(folder), latest_reports(file, 1)
    step, steps = (latest[0]["step"] if latest else 0), settings.get("steps")
    stopped = bool(latest and latest[0].get("stopped"))
    over = stopped or (isinstance(steps, int) and step >= steps)
    return {
        "run": folder.folder.name,
        "step": step,
        "steps": steps,
        "finished": over and folder.result.is_file(),
        "stopped": stopped,
        "updated": iso_time(file if file.exists() else folder.folder),
        "objective": settings.get("objective"),
    }


def _every(folder: RunFolder) -> int:
    """Steps between measurements; 1 if there are none."""
    held_out = _settings(folder).get("held_out")
    every = held_out.get("every") if isinstance(held_out, dict) and held_out.get("share") else None
    return every if isinstance(every, int) and every > 0 else 1


def _settings(folder: RunFolder) -> dict[str, Any]:
    """Of the run once it has started; before that, of the request."""
    for file, key in ((folder.identity, "config"), (folder.request, "settings")):
        try:
            found = json.loads(file.read_text(encoding="utf-8"))[key]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if isinstance(found, dict):
            return found
    return {}


def _shown(report: Report) -> Report:
    return plain({name: value for name, value in report.items() if name in _SHOWN or name.startswith(_HELD_OUT)})
