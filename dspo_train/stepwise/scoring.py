"""Scorers of latents: the taste model on the untrained network's features, and image scorers behind the VAE."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial

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

    odds = 1.0

    def __init__(self, features: DenoiserFeatures, head: Head, untrained: Untrained) -> None:
        self.features, self.untrained = features, untrained
        self.mean = torch.from_numpy(head.mean).float()
        self.weights = torch.from_numpy((head.weights / head.scale).T / head.temperature).float()  # (F, E)

    def members(self, clean: Tensor, conditioning: Conditioning) -> Tensor:
        """By each member of the ensemble, (N, E); 0 is the mean of the images that were judged."""
        with self.untrained():
            return self._members(clean, conditioning)

    def _members(self, clean: Tensor, conditioning: Conditioning) -> Tensor:
        found = self.features.vectors(clean, conditioning)
        return (found - self.mean.to(found.device)) @ self.weights.to(found.device)

    def score(self, clean: Tensor, prompts: Sequence[str], conditioning: Conditioning) -> Tensor:
        """See `StepScorer.score`."""
        return self.members(clean, conditioning)[:, 0]

    def slope(self, clean: Tensor, prompts: Sequence[str], conditioning: Conditioning) -> Tensor:
        """See `StepScorer.slope`."""
        with self.untrained():  # backward, too: checkpointed blocks are run again there
            return slope_of(lambda latents: self._members(latents, conditioning)[:, 0], clean)


class CautiousTaste:
    """What a taste is sure of: the mean over its members less their standard deviation. Implements `StepScorer`.

    Away from the images that were judged the members part; a score that rises while this falls is a guess.
    """

    odds = 1.0

    def __init__(self, taste: TasteScorer) -> None:
        self.taste = taste

    def score(self, clean: Tensor, prompts: Sequence[str], conditioning: Conditioning) -> Tensor:
        """See `StepScorer.score`; in logits."""
        members = self.taste.members(clean, conditioning)[:, 1:]
        return members.mean(1) - members.std(1)

    def slope(self, clean: Tensor, prompts: Sequence[str], conditioning: Conditioning) -> Tensor:
        """See `StepScorer.slope`; it only watches."""
        raise NotImplementedError


class PixelStepScorer:
    """A published scorer on what the VAE makes of latents; implements `StepScorer`.

    Images are decoded and scored one at a time, so that no more than one's graph is kept.

    Args:
        decode: latents in model units to pixels about [-1, 1], (N, C, h, w) -> (N, 3, H, W), with a gradient.
        odds: see `StepScorer.odds`.
    """

    def __init__(self, decode: Decode, scorer: PixelScorer, odds: float = 1.0) -> None:
        self.decode, self.scorer, self.odds = decode, scorer, odds

    def score(self, clean: Tensor, prompts: Sequence[str], conditioning: Conditioning) -> Tensor:
        """See `StepScorer.score`."""
        return torch.cat([self._score(one, [prompt]) for one, prompt in zip(clean.split(1), prompts, strict=True)])

    def slope(self, clean: Tensor, prompts: Sequence[str], conditioning: Conditioning) -> Tensor:
        """See `StepScorer.slope`."""
        pairs = zip(clean.split(1), prompts, strict=True)
        return torch.cat([slope_of(partial(self._score, prompts=[prompt]), one) for one, prompt in pairs])

    def _score(self, clean: Tensor, prompts: Sequence[str]) -> Tensor:
        pixels = (self.decode(clean) / 2 + 0.5).clamp(0, 1)
        return self.scorer.score_pixels(pixels, prompts).to(clean.device, torch.float32)


class DecodedScorer:
    """Any other image scorer on what the VAE makes of latents; implements `StepScorer`. It has no gradient."""

    def __init__(self, decode: Decode, scorer: Scorer, odds: float = 1.0) -> None:
        self.decode, self.scorer, self.odds = decode, scorer, odds

    def score(self, clean: Tensor, prompts: Sequence[str], conditioning: Conditioning) -> Tensor:
        """See `StepScorer.score`."""
        images = [to_images(self.decode(one))[0] for one in clean.split(1)]
        return self.scorer.score(images, prompts).to(clean.device, torch.float32)

    def slope(self, clean: Tensor, prompts: Sequence[str], conditioning: Conditioning) -> Tensor:
        """See `StepScorer.slope`; there is none."""
        raise NotImplementedError


def slope_of(score: Callable[[Tensor], Tensor], clean: Tensor) -> Tensor:
    """The gradient of each row's score, (N,), with respect to the row, (N, C, h, w)."""
    with torch.enable_grad():
        latents = clean.detach().requires_grad_()
        (slope,) = torch.autograd.grad(score(latents).sum(), latents)
    return slope
