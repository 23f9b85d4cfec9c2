"""Read what was encoded: latents in model units, and conditioning."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..models.conditioning import Conditioning, Frame, cat
from .cache import EncodingCache


@dataclass(frozen=True)
class Encodings:
    """A cache's content as a model takes it.

    Attributes:
        scaling, shift: the VAE's, to model units.
        frame: makes the size conditioning, see `Encoder.frame`.
        empty_caption: file of the empty caption, which replaces dropped ones.
    """

    cache: EncodingCache
    scaling: float
    shift: float
    frame: Callable[[Sequence[Frame]], Mapping[str, Tensor]]
    empty_caption: Path

    def moments(self, images: Sequence[Path], view: str) -> Tensor:
        """The VAE's moments of images of one shape. -> (N, 2C, h, w)"""
        return torch.stack([self.cache.read(path)[view] for path in images])

    def latents(self, moments: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """One draw from each posterior, all with the same random numbers, and noise. -> (N, C, h, w), (C, h, w)"""
        latent = (moments.shape[1] // 2, *moments.shape[2:])
        noise, posterior = torch.randn((2, *latent), generator=generator)
        return latents_from_moments(moments, posterior, scaling=self.scaling, shift=self.shift), noise

    def conditioning(self, captions: Sequence[Path], frames: Sequence[Frame]) -> Conditioning:
        """The conditioning of captions and sizes. -> N"""
        text = cat([Conditioning(self.cache.read(path)) for path in captions])
        return text.adding(self.frame(frames))


def latents_from_moments(moments: Tensor, noise: Tensor, *, scaling: float, shift: float = 0.0) -> Tensor:
    """A draw from the posterior in model units: (mean + std noise - shift) scaling. -> (..., C, h, w)"""
    mean, log_variance = moments.chunk(2, dim=-3)
    return (mean + (log_variance / 2).exp() * noise - shift) * scaling
