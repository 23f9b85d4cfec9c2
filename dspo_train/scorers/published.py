"""A published scorer: a frozen network behind the preprocessing that it was published with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor, nn

from .preprocessing import Preprocessing


@dataclass(frozen=True)
class PublishedScorer:
    """Implements `PixelScorer`.

    Attributes:
        network: frozen and in eval mode; called with (N, 3, side, side) in the type of its weights and N prompts, it
            returns (N,).
        at_once: images in a pass of `score`.
    """

    network: nn.Module
    preprocessing: Preprocessing
    at_once: int = 16

    def score_pixels(self, pixels: Tensor, prompts: Sequence[str]) -> Tensor:
        """See `PixelScorer.score_pixels`; the whole batch is one pass, on the network's device.

        Raises:
            ValueError: the shapes do not fit, or there is not one prompt for each image.
        """
        if pixels.ndim != 4 or pixels.shape[1] != 3 or len(pixels) != len(prompts):
            given = f"pixels {tuple(pixels.shape)}, {len(prompts)} prompts"
            raise ValueError(f"{given}; wanted (N, 3, H, W) and N prompts")
        return self._rate(self.preprocessing.of_pixels(pixels), prompts)

    @torch.no_grad()
    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Tensor:
        """See `Scorer.score`.

        Raises:
            ValueError: there is not one prompt for each image.
        """
        if len(images) != len(prompts):
            raise ValueError(f"{len(images)} images and {len(prompts)} prompts")
        parts = [slice(start, start + self.at_once) for start in range(0, len(images), self.at_once)]
        rated = [self._rate(self.preprocessing.of_images(images[part]), prompts[part]).cpu().double() for part in parts]
        return torch.cat([torch.empty(0, dtype=torch.float64), *rated])

    def _rate(self, prepared: Tensor, prompts: Sequence[str]) -> Tensor:
        weight = next(self.network.parameters())
        return self.network(prepared.to(weight.device, weight.dtype), prompts)
