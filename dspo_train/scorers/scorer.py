"""What every scorer offers, whatever it is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from PIL import Image
from torch import Tensor


class Scorer(Protocol):
    """Rates images; scores are comparable only with those of the same scorer."""

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Tensor:
        """N RGB images and the prompt of each -> (N,) float64, higher is better."""
        ...
