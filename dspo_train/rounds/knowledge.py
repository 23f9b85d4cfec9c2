"""What is known of the taste during the rounds: the clicks, those added on the way, and the head fit to both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..taste.comparisons import Comparisons, collect
from ..taste.head import Assessment, Head, fit_head


class Knowledge:
    """
    Args:
        vectors: features of the images of `clicks`, (N, F).

    Attributes:
        head, assessment: see `fit_head`.
        vectors: of the clicked images, without those of later rounds.
    """

    def __init__(self, clicks: Comparisons, vectors: np.ndarray) -> None:
        self.vectors = vectors
        self._rows = [
            (clicks.images[a], clicks.images[b], float(target), prompt, bool(counted))
            for a, b, target, prompt, counted in zip(
                clicks.first, clicks.second, clicks.target, clicks.prompt, clicks.counted, strict=True
            )
        ]
        self._features = dict(zip(clicks.images, vectors, strict=True))
        self.head: Head
        self.assessment: Assessment
        self._fit()

    def learn(self, answers: Sequence[Mapping[str, Any]], images: Sequence[Path], vectors: np.ndarray) -> None:
        """Fit the head anew, with answers on a round's images."""
        for answer in answers:
            rows = [answer["first"], answer["second"]]
            names = [str(images[row]) for row in rows]
            self._features |= {name: vectors[row] for name, row in zip(names, rows, strict=True)}
            # chosen because little was known of them: they do not count in the estimate of how well others are foretold
            self._rows.append((names[0], names[1], float(answer["target"]), answer["prompt"], False))
        if answers:
            self._fit()

    def _fit(self) -> None:
        found = collect(self._rows)
        self.head, self.assessment = fit_head(found, np.stack([self._features[image] for image in found.images]))
