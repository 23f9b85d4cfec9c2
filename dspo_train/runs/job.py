"""What one run reads, where it writes, and its settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import TrainConfig
from ..pairs import Scan
from ..training.model import ModelSource


@dataclass(frozen=True)
class Start:
    """The state of an earlier run from which another goes on.

    Attributes:
        run: the earlier run's folder.
        step: of its checkpoint.
    """

    run: Path
    step: int

    def identity(self) -> dict[str, Any]:
        """As a run folder records it."""
        return {"run": self.run.name, "step": self.step}


@dataclass(frozen=True)
class Job:
    """The inputs of one run.

    Attributes:
        model: where the model to train comes from.
        pairs: folder of labelled pairs, or of liked and disliked images.
        out: the run folder.
        refine: a LoRA to continue from; a frozen copy of it is the reference.
        cache: folder for encodings; by default `.dspo_cache` in the pair folder.
        scan: of `pairs`, if it has been scanned already.
        wired_loras: names of the LoRAs that the model carries.
        taste: what ranks the steps that the run draws itself, if that is not to be learned from `pairs`.
        start: the state of an earlier run to go on from, with the learning rate of this run's length from there on.
    """

    model: ModelSource
    pairs: Path
    out: Path
    config: TrainConfig
    refine: Path | None = None
    cache: Path | None = None
    scan: Scan | None = None
    wired_loras: tuple[str, ...] = ()
    start: Start | None = None
    taste: Path | None = None
