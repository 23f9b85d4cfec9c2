"""Scorers of latents: the taste model on the untrained network's features, and image scorers behind the VAE."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from ..images.decode import to_images
from ..models.conditioning import Conditioning
from ..scorers.scorer import PixelScorer, Scorer
from ..taste.features import DenoiserFeatures
from ..taste.head import Head

Untrained = Callable[[], AbstractContextManager[None]]  # inside, the network answers without its adapters
Decode = Callable[[Tensor], Tensor]


class TasteScorer:
    """A taste's score in logits; implements `StepScorer`. It needs no VAE: the features are those of latents.

    Args:
        untrained: the features are the untrained network's.
    """

    differentiable = True

    def __init__(self, features: DenoiserFeatures, head: Head, untrained: Untrained) -> None:
        self.features, self.untrained = features, untrained
        self.mean = torch.from_numpy(head.mean).float()
        self.weights = torch.from_numpy((head.weights / head.scale).T / head.temperature).float()  # (F, E)

    def members(self, clean: Tensor, conditioning: Conditioning) -> Tensor:
        """By each member of the ensemble, (N, E); 0 is the mean of the images that were judged."""
        with self.untrained():
            found = self.features.vectors(clean, conditioning)
        return (found - self.mean.to(found.device)) @ self.weights.to(found.device)

    def score(self, clean: Tensor, prompts: Sequence[str], conditioning: Conditioning) -> Tensor:
        """See `StepScorer.score`."""
        return self.members(clean, conditioning)[:, 0]


class CautiousTaste:
    """What a taste is sure of: the mean over its members less their standard deviation. Implements `StepScorer`.

    Away from the images that were judged the members part; a score that rises while this falls is a guess.
    """

    differentiable = True

    def __init__(self, taste: TasteScorer) -> None:
        self.taste = taste

    def score(self, clean: Tensor, prompts: Sequence[str], conditioning: Conditioning) -> Tensor:
        """See `StepScorer.score`; in logits."""
        members = self.taste.members(clean, conditioning)[:, 1:]
        return members.mean(1) - members.std(1)


class PixelStepScorer:
    """A published scorer on what the VAE makes of latents, with its gradient; implements `StepScorer`.

    Args:
        decode: latents in model units to pixels about [-1, 1], (N, C, h, w) -> (N, 3, H, W), with a gradient.
    """

    differentiable = True

    def __init__(self, decode: Decode, scorer: PixelScorer) -> None:
        self.decode, self.scorer = decode, scorer

    def score(self, clean: Tensor, prompts: Sequence[str], conditioning: Conditioning) -> Tensor:
        """See `StepScorer.score`."""
        pixels = (self.decode(clean) / 2 + 0.5).clamp(0, 1)
        return self.scorer.score_pixels(pixels, prompts).to(clean.device, torch.float32)


class DecodedScorer:
    """Any other image scorer on what the VAE makes of latents; implements `StepScorer`. It has no gradient."""

    differentiable = False

    def __init__(self, decode: Decode, scorer: Scorer) -> None:
        self.decode, self.scorer = decode, scorer

    def score(self, clean: Tensor, prompts: Sequence[str], conditioning: Conditioning) -> Tensor:
        """See `StepScorer.score`."""
        images = to_images(self.decode(clean))
        return self.scorer.score(images, prompts).to(clean.device, torch.float32)
