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


class PixelScorer(Scorer, Protocol):
    """A scorer that is differentiable in the pixels; its weights are frozen."""

    def score_pixels(self, pixels: Tensor, prompts: Sequence[str]) -> Tensor:
        """(N, 3, H, W) in [0, 1] and the prompt of each -> (N,), with a gradient to the pixels.

        Not to the last digit what `score` says of the same images: `score` scales 8-bit images as the published
        evaluations do, and this in floating point. Evaluate with one of them, and compare only its numbers.
        """
        ...
