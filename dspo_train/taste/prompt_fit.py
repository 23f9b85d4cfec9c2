"""Does an image still show its prompt? Asked of the untrained model itself, so that no other model is needed.

An image that shows its prompt is predicted better with it than with another one (a diffusion classifier: Li et al.,
ICCV 2023). The same noise and times are used for all prompts of an image, as only the difference tells.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..data import draws
from ..images.buckets import make_buckets
from ..objectives.errors import per_sample_mse
from ..training.model import Model
from .prepared import Prepared, prepare

RANGE = (0.3, 0.9)  # of the schedule: below, the image itself says what it shows; above, nothing is left of it


@dataclass(frozen=True)
class PromptFit:
    """Compares each image's own prompt with others.

    Attributes:
        model: as it stands; its adapters, if any, should be off.
        side: as of `DenoiserFeatures`.
        rivals: other prompts for each image, drawn once from those that are given.
        draws: times and noises for each image.
    """

    model: Model
    side: int
    rivals: int = 7
    draws: int = 4
    at_once: int = 64

    def of(self, images: Sequence[Image.Image], prompts: Sequence[str], others: Sequence[str]) -> np.ndarray:
        """By how much the nearest rival's error is above the own prompt's: positive for an image that shows it.

        Args:
            others: prompts to draw the rivals from; those equal to the image's own do not count.

        Returns:
            (N,) float64, in units of the model's mean squared error; NaN for an image without a rival.
        """
        pool = list(dict.fromkeys(others))
        buckets = make_buckets(self.side, min(64, self.side))
        prepared = prepare(self.model, images, prompts, buckets, pool)
        found = np.full(len(images), np.nan)
        rivals = [self._rivals(place, prompt, pool) for place, prompt in enumerate(prompts)]
        with torch.no_grad(), self.model.training(checkpointing=False):
            for place, clean in enumerate(prepared.clean):
                if rivals[place]:
                    found[place] = self._lead(prepared, place, clean, [prompts[place], *rivals[place]])
        return found

    def _rivals(self, place: int, own: str, pool: Sequence[str]) -> list[str]:
        unlike = [text for text in pool if text.strip() != own.strip()]
        order = torch.randperm(len(unlike), generator=draws.generator(0, "rivals", place)).tolist()
        return [unlike[n] for n in order[: self.rivals]]

    def _lead(self, prepared: Prepared, place: int, clean: Tensor, texts: Sequence[str]) -> float:
        """The nearest rival's mean error minus the own prompt's, which is the first of `texts`."""
        generator, process, device = draws.generator(0, "prompt fit"), self.model.process, self.model.device
        noise = torch.randn((self.draws, *clean.shape), generator=generator)
        parts = np.linspace(*RANGE, self.draws + 1)
        times = [process.draw_evenly(generator, low, high) for low, high in itertools.pairwise(parts)]
        t = torch.stack(times).repeat(len(texts))
        noisy, target = process.sample(
            clean.expand_as(noise).repeat(len(texts), 1, 1, 1), noise.repeat(len(texts), 1, 1, 1), t
        )
        conditioning = prepared.conditioning([place] * len(t), [text for text in texts for _ in times])
        errors = []
        for start in range(0, len(t), self.at_once):
            some = slice(start, start + self.at_once)
            seen = self.model.predict(noisy[some].to(device), t[some].to(device), conditioning[some].to(device))
            errors.append(per_sample_mse(seen.cpu(), target[some]))
        own, *rivals = torch.cat(errors).view(len(texts), -1).mean(1).tolist()
        return min(rivals) - own
