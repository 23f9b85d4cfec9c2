"""What a model's pictures show: hidden reward, caption fit, diversity, and the win over the base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from dspo_train.evaluate.shapes import SIZE, captions
from dspo_train.models.base import Base
from dspo_train.models.sampling import SampleSpec, sample
from dspo_train.scorers.toys import look

from .worlds import TASTES

SEEDS = 2  # pictures for each of the 48 captions
SAMPLING = SampleSpec(width=SIZE, height=SIZE, steps=8, guidance=2.0)


@dataclass(frozen=True)
class Seen:
    """Of each test picture, in one order for every model: the reward by every taste, and whether it fits.

    Attributes:
        spread: mean distance between the pictures of one caption, root mean square of pixels in [0, 1].
    """

    rewards: dict[str, list[float]]
    fits: list[bool]
    spread: float

    def to_dict(self) -> dict[str, Any]:
        return {"rewards": self.rewards, "fits": self.fits, "spread": self.spread}


def prompts() -> list[str]:
    return [caption for caption in captions() for _ in range(SEEDS)]


def look_at(model: Base) -> Seen:
    """Draw the test pictures with the model as it stands; their seeds are never those of a candidate."""
    texts = prompts()
    pictures = sample(model, texts, range(10**6, 10**6 + len(texts)), SAMPLING, batch_size=96)
    readings = [look(picture) for picture in pictures]
    rewards = {name: [round(taste(reading), 4) for reading in readings] for name, taste in TASTES.items()}
    fits = [reading.fits(text) for reading, text in zip(readings, texts, strict=True)]
    return Seen(rewards, fits, spread(pictures))


def spread(pictures: Sequence[Image.Image]) -> float:
    pixels = np.stack([np.asarray(picture, dtype=np.float32) / 255 for picture in pictures])
    groups = pixels.reshape(-1, SEEDS, *pixels.shape[1:])
    distances = [
        np.sqrt(np.square(group[i] - group[j]).mean()) for group in groups for i in range(SEEDS) for j in range(i)
    ]
    return round(float(np.mean(distances)), 5)
