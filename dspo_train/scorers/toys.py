"""Two tastes in the shapes world, known exactly: what a training is measured by where no person is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..evaluate.shapes import Reading, read


@dataclass(frozen=True)
class ToyTaste:
    """A known taste in the shapes world: a function of what an image shows."""

    of: Callable[[Reading], float]

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Tensor:
        """See `Scorer.score`; the prompts are ignored."""
        return torch.tensor([self.of(look(image)) for image in images], dtype=torch.float64)


def large_and_dark(reading: Reading) -> float:
    """Larger shapes before darker backgrounds; a unit is one standard deviation among drawn scenes."""
    return (reading.size - 0.38) / 0.11 + (reading.darkness - 0.50) / 0.24


def further_left(reading: Reading) -> float:
    """The shape further to the left; a unit is one standard deviation among drawn scenes."""
    return (0.5 - reading.x) / 0.12


def look(image: Image.Image) -> Reading:
    """What an RGB image of the shapes world shows."""
    return read(torch.from_numpy(np.asarray(image, dtype=np.float32) / 255).permute(2, 0, 1))
