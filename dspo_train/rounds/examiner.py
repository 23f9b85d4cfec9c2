"""Looks at images during the rounds: as vectors for the taste model, and as the guard does."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from ..images.decode import load_rgb
from ..taste.comparisons import Comparisons
from ..taste.features import DenoiserFeatures
from ..taste.looking import look_at
from ..taste.prompt_fit import PromptFit
from ..training.model import Model
from .guard import Check, distance_ratio, spread_ratio
from .knowledge import Knowledge

FIT_IMAGES = 96  # that are asked whether they show their prompt: it takes a while


class Examiner:
    """
    Args:
        model: the untrained one; its network carries no adapter while it looks.
        side: pixels, see `DenoiserFeatures`.
        clicks: what was judged, images by their paths.
        prompts: of a round's images, from which the rivals of each prompt are drawn.
        cache: a folder for the features of the clicked images.
    """

    def __init__(self, model: Model, side: int, clicks: Comparisons, prompts: Sequence[str], cache: Path) -> None:
        self.clicks, self.prompts, self.cache = clicks, prompts, cache
        self._features, self._prompt_fit = DenoiserFeatures(model, side), PromptFit(model, side)

    def vectors(self, images: Sequence[Path]) -> np.ndarray:
        """(N, F) features of a round's images."""
        return self._features.of([load_rgb(path) for path in images], self.prompts)

    @cached_property
    def known(self) -> Knowledge:
        """What the clicks tell."""
        vectors = look_at(self._clicked, self.clicks.prompts_of_images, self._features, self.cache)
        return Knowledge(self.clicks, vectors)

    def check(self, images: Sequence[Path], vectors: np.ndarray) -> Check:
        """What the guard sees in a round's images.

        Args:
            vectors: their features.
        """
        lost = self._fit_of_clicks - self._fit(images, self.prompts)
        accuracy = self.known.assessment.accuracy
        return Check(
            accuracy=None if np.isnan(accuracy) else accuracy,
            fit_lost=None if np.isnan(lost) else lost,
            spread=spread_ratio(self.known.head, self.known.vectors, vectors),
            distance=distance_ratio(self.known.vectors, vectors),
        )

    @cached_property
    def _fit_of_clicks(self) -> float:
        return self._fit(self._clicked, self.clicks.prompts_of_images)

    @property
    def _clicked(self) -> list[Path]:
        return [Path(path) for path in self.clicks.images]

    def _fit(self, images: Sequence[Path], prompts: Sequence[str]) -> float:
        """The share of images that show their prompt, of a part of them; NaN where no prompt has a rival."""
        step = max(1, len(images) // FIT_IMAGES)
        some = [load_rgb(path) for path in images[::step]]
        lead = self._prompt_fit.of(some, prompts[::step], self.prompts)
        there = lead[~np.isnan(lead)]
        return float((there > 0).mean()) if len(there) else np.nan
