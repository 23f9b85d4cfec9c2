"""The run folder: settings, reports, checkpoints and the result.

    run.json                      settings, what they were applied to, and the version
    reports.jsonl                 one line per step
    beginning/reference.safetensors  the frozen reference, if an existing LoRA is refined
    beginning/taste.safetensors   the taste that ranks the policy's own steps, if it is trained on them
    beginning/                    state, reports and best weights of the run that this one goes on from, if it does
    checkpoints/step-000050/      state.safetensors (to resume from) and lora.safetensors (to use)
    previews/step-000050.png      base beside LoRA, if previews were requested
    best/step-000150.safetensors  weights of the best step on held-out pairs, if they may become the result
    NAME.safetensors, curve.png   the result, once the last step is done
    NAME-checkpoint.safetensors   the whole UNet, if all of it is trained
    status.json, .alive           what it is doing, or how it ended; see `status`
    request.json, about.json      what was asked for, see `names`, and what lists show of it, see `overview`
    workflow.json                 the graph that it was made in, if it was in ComfyUI

Every file and every checkpoint folder appears whole under its name or not at all. A run may have any name, so no other
weights lie beside the result.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from .. import files
from ..config import with_defaults
from ..exceptions import RunError
from .checkpoints import STEP, BestWeights, Checkpoints
from .reports import latest_reports

if TYPE_CHECKING:  # that module loads accelerate
    from ..training.trainer import StepReport

# May change when a run is resumed: they do not affect the weights, or only in their last bits.
FREE_SETTINGS = ("save_every", "keep_checkpoints", "gradient_checkpointing")
_SAID_ONLY = ("version", "base.name")  # told, but a run is the same without: hashes identify the base


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of a run folder; the system releases the lock if this process dies.

    Raises:
        RunError: another process is training in this folder, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", timeout=0)
        lock.acquire()
    except Timeout as error:
        raise RunError(f"another process is training in {folder}; wait for it, or choose another folder") from error
    except OSError as error:
        raise files.cannot_write(folder, error) from error
    try:
        yield
    finally:
        lock.release()


class RunFolder:
    """One run's files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def result(self) -> Path:
        return self.folder / f"{self.folder.resolve().name}.safetensors"

    @property
    def whole(self) -> Path:
        """The checkpoint of a run that trains the whole UNet."""
        return self.folder / f"{self.folder.resolve().name}-checkpoint.safetensors"

    @property
    def curve(self) -> Path:
        return self.folder / "curve.png"

    @property
    def reports_file(self) -> Path:
        return self.folder / "reports.jsonl"

    @property
    def reference(self) -> Path:
        return self.beginning / "reference.safetensors"

    @property
    def taste(self) -> Path:
        """By which a run that draws its own images ranks them, as it was when the run began."""
        return self.beginning / "taste.safetensors"

    @property
    def beginning(self) -> Path:
        """See `continuing`; like the reference it is written before run.json, and never changed after."""
        return self.folder / "beginning"

    @property
    def request(self) -> Path:
        """See `names`."""
        return self.folder / "request.json"

    @property
    def status(self) -> Path:
        """See `status`; so are the next two."""
        return self.folder / "status.json"

    @property
    def alive(self) -> Path:
        return self.folder / ".alive"

    @property
    def reserve(self) -> Path:
        return self.folder / ".reserve"

    @property
    def about(self) -> Path:
        """See `overview`."""
        return self.folder / "about.json"

    @property
    def workflow(self) -> Path:
        """The graph that asked for the run, if it was made in one."""
        return self.folder / "workflow.json"

    def preview(self, step: int) -> Path:
        return self.folder / "previews" / f"step-{step:06d}.png"

    def previews(self) -> list[Path]:
        """Oldest first."""
        parent = self.folder / "previews"
        found = [(m, path) for path in parent.glob("*.png") if (m := STEP.fullmatch(path.stem))]
        return [path for _, path in sorted(found, key=lambda it: int(it[0][1]))]

    @property
    def identity(self) -> Path:
        """The settings of the run, what they were applied to, and the version."""
        return self.folder / "run.json"

    @property
    def begun(self) -> bool:
        return self.identity.exists()

    def start(self, identity: Mapping[str, Any], refine: Path | None = None) -> None:
        """Record what this run is and copy the LoRA that it refines, or check that it is still the same run.

        Raises:
            RunError: see `check`.
        """
        self.check(identity)
        if refine is not None and not self.begun:  # before run.json: from then on the copy is the reference
            files.write_bytes(self.reference, refine.read_bytes())
        files.write_json(self.identity, identity)
        self._sweep()

    def check(self, identity: Mapping[str, Any]) -> None:
        """Check that the folder is free, or holds the run that `identity` (all or some of its keys) describes.

        Raises:
            RunError: the folder holds another run (the message says what differs), or other files.
        """
        if self.begun:
            self._check_same(json.loads(json.dumps(identity)))
        elif foreign := self._foreign():
            raise RunError(
                f"{self.folder} is not empty but has no run.json (it holds {sorted(foreign)[0]!r}); "
                "choose a new folder for the run"
            )

    def _foreign(self) -> list[str]:
        if self.folder.exists() and not self.folder.is_dir():
            raise RunError(f"{self.folder} is a file; give a folder for the run")
        mine = (
            self.request,
            self.beginning,
            self.status,
            self.alive,
            self.reserve,
            self.about,
            self.workflow,
        )
        ours = {".lock", *(path.name for path in mine)}
        return [p.name for p in self.folder.iterdir() if p.name not in ours] if self.folder.is_dir() else []

    def _check_same(self, identity: Mapping[str, Any]) -> None:
        try:
            before = json.loads(self.identity.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(f"{self.identity} cannot be read ({error}); choose a new folder") from error
        if isinstance(before.get("config"), dict):
            before["config"] = with_defaults(before["config"])
        changed = [
            f"{key} was {_short(old)}, now {_short(new)}"
            for key, old, new in differences({key: before.get(key) for key in identity}, identity)
            if key.rsplit(".", 1)[-1] not in FREE_SETTINGS and key not in _SAID_ONLY
        ]
        if changed:
            raise RunError(
                f"{self.folder} holds another run: {'; '.join(changed[:5])}. "
                "Give the same settings to continue it, or choose another folder for a new run"
            )

    @property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self.folder, self.beginning)

    @property
    def best(self) -> BestWeights:
        """Of the best step on held-out pairs."""
        return BestWeights(self.folder, self.beginning)

    def _sweep(self) -> None:
        """Remove what a killed process left half-written."""
        for parent in (self.folder, self.beginning, self.checkpoints.place, *self.best.places):
            for path in parent.glob(".*") if parent.is_dir() else ():
                if path.is_dir() and path.name.startswith(".step-"):
                    shutil.rmtree(path, ignore_errors=True)
                elif path.suffix == ".tmp":
                    path.unlink(missing_ok=True)

    # Reports

    def append(self, report: StepReport) -> None:
        """Add a line and flush it to the system at once."""
        try:
            with self.reports_file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(report.flat()) + "\n")
        except OSError as error:
            raise files.cannot_write(self.reports_file, error) from error

    def reports(self) -> list[dict[str, Any]]:
        return list(files.read_json_lines(self.reports_file))

    def completed(self, steps: int) -> bool:
        """Is the result written, and do the reports end with the last step or an early stop?"""
        if not self.result.exists():
            return False
        return any(last["step"] >= steps or "stopped" in last for last in latest_reports(self.reports_file, 1))

    def rewind(self, step: int) -> None:
        """Remove the reports and best weights of steps after a checkpoint, which will be repeated."""
        self.best.forget_after(step)
        earlier = files.read_json_lines(self.beginning / self.reports_file.name)
        kept = {r["step"]: r for r in (*earlier, *self.reports()) if r["step"] <= step}
        files.write_text(self.reports_file, "".join(json.dumps(r) + "\n" for r in kept.values()))


def differences(before: Any, now: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The differences of two nested mappings: dotted key and both values, None for a missing one."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in [*before, *(n for n in now if n not in before)]:
            yield from differences(before.get(name), now.get(name), f"{key}.{name}" if key else name)
    elif before != now:
        yield key, before, now


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 24 else text[:12] + '..."'
