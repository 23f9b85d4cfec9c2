"""One training, looked at several times on its way."""

from __future__ import annotations

import json
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from dspo_train import files
from dspo_train.demo.run import MODEL
from dspo_train.runs.diffusers_model import DiffusersModel, DiffusersSource
from dspo_train.runs.job import Job
from dspo_train.runs.session import open_session

from . import measure, worlds
from .plan import LOOKS, Run, config_of

Result = dict[str, Any]  # as in the JSON of a run


def results_of(out: Path, runs: Sequence[Run], on_result: Callable[[Run, Result], None]) -> list[Result]:
    """Train and look, or read what an earlier call found.

    A run that another process has in hand is left to it, and waited for at the end.
    """
    for folder in ("results", "locks"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    found: dict[str, Result] = {}
    for seconds in (0, -1):  # of waiting; -1 for as long as it takes
        for run in (run for run in runs if run.key not in found):
            with suppress(Timeout), FileLock(out / "locks" / run.key, timeout=seconds):
                found[run.key] = _result(out, run)
                on_result(run, found[run.key])
    return [found[run.key] for run in runs]


def read(place: Path) -> Result:
    return json.loads(place.read_text(encoding="utf-8"))


def _result(out: Path, run: Run) -> Result:
    place = out / "results" / f"{run.key}.json"
    if not place.exists():
        files.write_text(place, json.dumps(_train(out, run)))
    return read(place)


def _train(out: Path, run: Run) -> Result:
    started = time.monotonic()
    pairs = worlds.pair_folder(out, run.taste, run.pairs, run.flipped)
    folder = out / "runs" / run.key
    shutil.rmtree(folder, ignore_errors=True)
    looks: list[Result] = []
    drifts: list[float] = []
    held_out: list[Result] = []
    with open_session(Job(DiffusersSource(MODEL), pairs, folder, config_of(run), cache=out / "encodings")) as session:
        for report in session.reports():
            drifts.append(report.drift)
            if report.held_out:
                held_out.append({"step": report.step, **report.held_out})
            if report.step in LOOKS:
                with session.training.averaged():
                    assert isinstance(session.model, DiffusersModel)
                    seen = measure.look_at(session.model.base)
                recent = drifts[-20:]
                looks.append({"step": report.step, "drift": statistics.fmean(recent), **seen.to_dict()})
    shutil.rmtree(folder, ignore_errors=True)
    seconds = time.monotonic() - started
    return {"run": run.__dict__, "label": run.label, "looks": looks, "held_out": held_out, "seconds": seconds}


def base_result(out: Path) -> Result:
    """The base's own pictures, which every run is compared with."""
    place = out / "results" / "base.json"
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(place, json.dumps(measure.look_at(worlds.base()).to_dict()))
    return read(place)
