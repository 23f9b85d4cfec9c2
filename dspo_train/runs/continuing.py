"""More steps for a run that has been trained already: another run, which goes on from the state of the earlier one.

The new run's folder holds a copy of the state, so that it does not depend on the earlier run afterwards. From there on
it is a run like any other: stopped and begun again, it ends with the same bits. But it is not the run that as many
steps from scratch would have been: up to there the learning rate followed the earlier run's length.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from .. import files
from ..exceptions import RunError
from .folder import RunFolder
from .job import Start
from .names import find_run, plain_request, requested
from .reports import latest_reports

FROM_SCRATCH = "from scratch"
CHOICES = ("auto", FROM_SCRATCH)  # for a run that differs from an earlier one by more steps only
_STATE = "state.safetensors"


@dataclass(frozen=True)
class Beginning:
    """Where a run that is asked for begins.

    Attributes:
        folder: of the run, if it was begun before.
        start: the state of another run that it goes on from.
        longer: name and steps of a run that differs by more steps only.
    """

    folder: RunFolder | None = None
    start: Start | None = None
    longer: tuple[str, int] | None = None

    def notes(self, steps: int) -> list[str]:
        """What to tell the user of a run of so many steps."""
        if self.start is not None:
            return [
                f"this run goes on from {self.start.run.name} at step {self.start.step}, with the learning rate of a "
                f"run of {steps} steps; to train all of them anew, set `continue_from` to {FROM_SCRATCH}"
            ]
        if self.longer is not None:
            name, more = self.longer
            return [f"{name} has the same settings and {more} steps; this run trains its {steps} steps from scratch"]
        return []


def beginning(parent: Path, name: str, request: Mapping[str, Any], *, scratch: bool = False) -> Beginning:
    """Find the run that was asked for before, or the state of a shorter one to go on from.

    Args:
        request: see `names.find_run`; its settings are those of a `TrainConfig`.
        scratch: whether a run counts only if it was trained from scratch.

    Raises:
        ConfigError: `name` is not a plain name.
    """
    if (same := find_run(parent, name, request)) is not None:
        return Beginning(same)
    wanted = plain_request(request)
    steps, same_but_steps = wanted["settings"]["steps"], _without_steps(wanted)
    starts: list[Start] = []
    longer: list[tuple[int, str]] = []
    for folder, asked in requested(parent, name):
        if _without_steps(asked) != same_but_steps:
            continue
        there, continued = asked["settings"]["steps"], asked.get("continued")
        if there == steps and continued and not scratch:
            return Beginning(folder, Start(parent / continued["run"], continued["step"]))
        if there > steps:
            longer.append((there, folder.folder.name))
        elif there < steps and not _stopped_early(folder):
            starts += _states(folder, steps)
    if starts and not scratch:
        return Beginning(start=max(starts, key=lambda start: start.step))  # of equals the newest run's
    most = max(longer, default=None)
    return Beginning(longer=None if most is None else (most[1], most[0]))


def request_of(request: Mapping[str, Any], start: Start | None) -> dict[str, Any]:
    """What is asked of a run that goes on from there."""
    return {**request, "continued": start.identity()} if start else dict(request)


def take_over(start: Start, folder: RunFolder) -> None:
    """Copy the state into the new run's folder, with the reports and best weights up to there and what ranks its steps.

    Raises:
        RunError: the state cannot be read, or the copy cannot be written.
    """
    earlier = RunFolder(start.run)
    found = [path for step, path in earlier.checkpoints.steps() if step == start.step]
    try:
        state = (found[0] / _STATE).read_bytes()
        kept = {folder.best.begun / path.name: path.read_bytes() for path in earlier.best.up_to(start.step)}
        if earlier.taste.exists():
            kept[folder.taste] = earlier.taste.read_bytes()
    except (OSError, IndexError) as error:
        raise RunError(
            f"{start.run.name}: its state at step {start.step} cannot be read, so no run can go on from it; "
            f"set `continue_from` to {FROM_SCRATCH}"
        ) from error
    lines = [json.dumps(report) + "\n" for report in earlier.reports() if report["step"] <= start.step]
    try:
        folder.beginning.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise files.cannot_write(folder.beginning, error) from error
    for path, weights in kept.items():
        files.write_bytes(path, weights)
    files.write_text(folder.beginning / folder.reports_file.name, "".join(lines))
    files.write_bytes(folder.beginning / _STATE, state)


def _without_steps(request: Any) -> Any:
    """What is asked besides the number of steps, which the warm-up follows."""
    if not (isinstance(request, dict) and isinstance(settings := request.get("settings"), dict)):
        return None
    optim = {key: value for key, value in settings["optim"].items() if key != "warmup"}
    rest = {key: value for key, value in settings.items() if key != "steps"}
    others = {key: value for key, value in request.items() if key != "continued"}
    return {**others, "settings": {**rest, "optim": optim}}


def _stopped_early(folder: RunFolder) -> bool:
    """Did it end by itself, because it no longer improved?"""
    return any("stopped" in report for report in latest_reports(folder.reports_file, 1))


def _states(folder: RunFolder, steps: int) -> Iterator[Start]:
    """The states of a run before that many steps, as far as they are whole."""
    for step, path in folder.checkpoints.steps():
        try:
            with safe_open(path / _STATE, "pt"):  # checks the length of the file against its header
                pass
        except (OSError, SafetensorError):
            continue
        if step < steps:
            yield Start(folder.folder, step)
