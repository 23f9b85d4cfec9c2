"""Scorers, which judge images in place of a person, by name.

A scorer labels candidates, measures a model, and guides the choice among steps. A new one is a class and a row here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..exceptions import ConfigError
from .shapes import Reading, read


class Scorer(Protocol):
    """Rates images; scores are comparable only with those of the same scorer."""

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Tensor:
        """N RGB images and the prompt of each -> (N,) float64, higher is better."""
        ...


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


# A row makes its scorer on request, so that a scorer with a model of its own loads nothing before that.
SCORERS: Mapping[str, Callable[[], Scorer]] = {
    "large_and_dark": lambda: ToyTaste(large_and_dark),
    "further_left": lambda: ToyTaste(further_left),
}


def make_scorer(name: str) -> Scorer:
    """Make a scorer by name; an unknown name is a ConfigError."""
    if name not in SCORERS:
        raise ConfigError(f"unknown scorer {name!r}; known: {', '.join(SCORERS)}")
    return SCORERS[name]()


def look(image: Image.Image) -> Reading:
    """What an RGB image of the shapes world shows."""
    return read(torch.from_numpy(np.asarray(image, dtype=np.float32) / 255).permute(2, 0, 1))
