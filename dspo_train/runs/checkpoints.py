"""States to resume from, and the weights of the best step, in a run folder."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor

from .. import files

STEP = re.compile(r"step-(\d{6,})")
_BEST = "best"


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoint folders of a run.

    Attributes:
        run: the run's folder.
        beginning: where the state lies that the run goes on from, if it does.
    """

    run: Path
    beginning: Path

    @property
    def place(self) -> Path:
        return self.run / "checkpoints"

    def steps(self) -> list[tuple[int, Path]]:
        """Complete checkpoints, oldest first."""
        found = [(m, p) for p in self.place.iterdir() if (m := STEP.fullmatch(p.name))] if self.place.is_dir() else []
        return sorted((int(match[1]), path) for match, path in found)

    def oldest(self) -> int:
        """The earliest step that a resume may return to."""
        return min((step for step, _ in self.steps()), default=0)

    def latest(self) -> dict[str, Tensor] | None:
        """The newest readable state, at last the one that the run began with; damaged ones are skipped."""
        places = [*(path for _, path in reversed(self.steps())), self.beginning]
        states = (_state_in(path) for path in places)
        return next((state for state in states if state is not None), None)

    def save(
        self, step: int, state: Mapping[str, Tensor], write_lora: Callable[[Path], None] | None, keep: int
    ) -> None:
        """Write a checkpoint folder under a temporary name, rename it, then drop the oldest ones.

        Raises:
            RunError: the disk is full; the earlier checkpoints are untouched.
        """
        target = self.place / f"step-{step:06d}"
        if target.exists() and _state_in(target) is not None:
            return
        temporary: Path | None = None
        try:
            shutil.rmtree(target, ignore_errors=True)  # damaged, and training has reached it again
            self.place.mkdir(exist_ok=True)
            temporary = self.place / f".step-{uuid.uuid4().hex}"
            temporary.mkdir()
            files.write_bytes(temporary / "state.safetensors", to_bytes({k: t.contiguous() for k, t in state.items()}))
            if write_lora is not None:
                write_lora(temporary / "lora.safetensors")
            os.replace(temporary, target)
        except OSError as error:
            raise files.cannot_write(target, error) from error
        finally:
            if temporary is not None:
                shutil.rmtree(temporary, ignore_errors=True)
        for _, old in self.steps()[:-keep]:
            shutil.rmtree(old, ignore_errors=True)


@dataclass(frozen=True)
class BestWeights:
    """The weights of the best step on held-out pairs so far, and of earlier ones that a resume may return to.

    Attributes:
        run: the run's folder.
        beginning: where those lie of the run that this one goes on from, if it does.
    """

    run: Path
    beginning: Path

    @property
    def own(self) -> Path:
        return self.run / _BEST

    @property
    def begun(self) -> Path:
        """Of those that the run began with."""
        return self.beginning / _BEST

    @property
    def places(self) -> tuple[Path, Path]:
        return self.own, self.begun

    def save(self, step: int, weights: Mapping[str, Tensor], resumed: int) -> None:
        """Keep the weights of a step that is the best so far.

        Args:
            resumed: the earliest step that a resume may return to; what was best then is kept.

        Raises:
            RunError: the disk is full; the earlier best is untouched.
        """
        tensors = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
        files.write_bytes(self._file(step), to_bytes(tensors))
        for old in [kept for kept, _ in _kept(self.own) if kept <= resumed][:-1]:
            self._file(old).unlink(missing_ok=True)

    def read(self, step: int) -> dict[str, Tensor] | None:
        """The weights that were kept for a step; None if they are missing or damaged."""
        for place in self.places:
            with contextlib.suppress(OSError, SafetensorError):
                return from_bytes((place / self._file(step).name).read_bytes())
        return None

    def up_to(self, step: int) -> list[Path]:
        """The files of steps so far, those of the run that this one goes on from included."""
        return [path for place in self.places for kept, path in _kept(place) if kept <= step]

    def forget_after(self, step: int) -> None:
        for kept, path in _kept(self.own):
            if kept > step:
                path.unlink(missing_ok=True)

    def _file(self, step: int) -> Path:
        return self.own / f"step-{step:06d}.safetensors"


def _kept(place: Path) -> list[tuple[int, Path]]:
    """The steps whose weights lie in a folder, in order."""
    found = [(STEP.fullmatch(path.stem), path) for path in place.glob("step-*.safetensors")]
    return sorted((int(match[1]), path) for match, path in found if match)


def _state_in(checkpoint: Path) -> dict[str, Tensor] | None:
    try:  # from memory, not mapped: Windows cannot remove a checkpoint whose file is still mapped
        return from_bytes((checkpoint / "state.safetensors").read_bytes())
    except (OSError, SafetensorError):
        return None
