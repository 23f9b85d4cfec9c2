"""Whether a known taste was learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..evaluate.winrate import WinRate, win_rate
from ..scorers.scorer import Scorer
from ..scorers.toys import look


@dataclass(frozen=True)
class Verdict:
    """How a taste judges a LoRA: images without and with it, from the same prompts and seeds.

    Attributes:
        win_rate: share of images with the LoRA that the taste prefers to the base's image.
        reward_before, reward_after: mean of the taste.
        fit_before, fit_after: share of images whose shape and colour match the caption.
    """

    win_rate: WinRate
    reward_before: float
    reward_after: float
    fit_before: float
    fit_after: float


def judge(
    scorer: Scorer, prompts: Sequence[str], before: Sequence[Image.Image], after: Sequence[Image.Image]
) -> Verdict:
    """Compare images one by one, from the same prompts and seeds."""
    rewards = [scorer.score(images, prompts).numpy() for images in (before, after)]
    won = 0.5 * (1 + np.sign(rewards[1] - rewards[0]))
    fits = [
        [look(image).fits(prompt) for image, prompt in zip(images, prompts, strict=True)] for images in (before, after)
    ]
    return Verdict(
        win_rate(zip(prompts, won.tolist(), strict=True)),
        *(float(np.mean(reward)) for reward in rewards),
        *(float(np.mean(fit)) for fit in fits),
    )
