"""What one training reads, where it writes and how it goes."""

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
    """One training.

    Attributes:
        base: diffusers folder or single `.safetensors` checkpoint.
        pairs: folder of labelled pairs, or of liked and disliked images.
        out: the run folder.
        refine: a LoRA to go on from; frozen, it is then the reference.
        tokenizer: folder with CLIP's vocabulary, where the base's own is another.
        prediction: overrides what the base says of itself.
        cache: folder for encodings; default `.dspo_cache` in the pair folder.
        unet: gives, when the base is loaded, a UNet to train in place of the one in the checkpoint.
        scan: what `pairs` holds, where that is known already.
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
