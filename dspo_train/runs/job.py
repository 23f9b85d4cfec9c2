"""What one run reads, where it writes, and its settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..config import TrainConfig
from ..models.families import Prediction
from ..models.single_file import UnetWeights
from ..pairs import Scan


@dataclass(frozen=True)
class Job:
    """The inputs of one run.

    Attributes:
        base: diffusers folder or single `.safetensors` checkpoint.
        pairs: folder of labelled pairs, or of liked and disliked images.
        out: the run folder.
        refine: a LoRA to continue from; a frozen copy of it is the reference.
        tokenizer: folder with the base's vocabulary, if that is not CLIP's.
        prediction: overrides the prediction type that the base declares.
        cache: folder for encodings; by default `.dspo_cache` in the pair folder.
        unet: called when the base is loaded; returns a UNet to train in place of the checkpoint's.
        scan: of `pairs`, if it has been scanned already.
    """

    base: Path
    pairs: Path
    out: Path
    config: TrainConfig
    refine: Path | None = None
    tokenizer: Path | None = None
    prediction: Prediction | None = None
    cache: Path | None = None
    unet: Callable[[], UnetWeights] | None = None
    scan: Scan | None = None
