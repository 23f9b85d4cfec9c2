"""What ends the rounds: limits on signs that the taste model is no longer to be followed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from ..taste.head import Head


@dataclass(frozen=True)
class Limits:
    """Of `Check`; each holds for the images of one round. See docs/rounds.md for what they were chosen by.

    Attributes:
        accuracy: of the taste model on held-out clicks, at least.
        fit_lost: share of images that no longer show their prompt to the base model, beyond that of the clicked ones.
            The base model knows moved images less well, so this rises before anything is lost.
        spread: of the ensemble on pairs of new images, relative to pairs of clicked ones.
        distance: of new images from the clicked ones, relative to that of the clicked ones from each other.
    """

    accuracy: float = 0.6
    fit_lost: float = 0.15
    spread: float = 2.4
    distance: float = 2.5


@dataclass(frozen=True)
class Check:
    """The same signs as measured; None where one cannot be."""

    accuracy: float | None = None
    fit_lost: float | None = None
    spread: float | None = None
    distance: float | None = None

    def broken(self, limits: Limits) -> str:
        """Which limit is passed, in words; empty if none is."""
        if self.accuracy is not None and self.accuracy < limits.accuracy:
            return (
                f"the taste model foretells {self.accuracy:.0%} of the clicks it has not seen, and going on without "
                f"you takes {limits.accuracy:.0%}"
            )
        if self.fit_lost is not None and self.fit_lost > limits.fit_lost:
            return (
                f"{self.fit_lost:.1%} more of the images no longer show their prompt; at most {limits.fit_lost:.0%} may"
            )
        if self.spread is not None and self.spread > limits.spread:
            return (
                f"the taste model is {self.spread:.1f} times less sure of the new images than of yours; at most "
                f"{limits.spread:.1f} times is allowed"
            )
        if self.distance is not None and self.distance > limits.distance:
            return (
                f"the new images are {self.distance:.1f} times as far from yours as yours are from each other; at most "
                f"{limits.distance:.1f} times is allowed"
            )
        return ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Check:
        return cls(**values)


def spread_ratio(head: Head, known: np.ndarray, new: np.ndarray) -> float:
    """How much the members' scores differ among new images, relative to known ones.

    The standard deviation over members of each image's score less the images' mean, root mean square, as a share of how
    much the mean score differs between images: what the ensemble disagrees on, over what it agrees on.

    Args:
        known, new: features, (N, F) and (M, F).
    """
    return _disagreement(head.scores(new)) / max(_disagreement(head.scores(known)), 1e-12)


def _disagreement(scores: np.ndarray) -> float:
    centred = scores - scores.mean(0)
    apart = float(np.sqrt(centred.var(1).mean()))
    return apart / max(float(centred.mean(1).std()), 1e-12)


def distance_ratio(known: np.ndarray, new: np.ndarray) -> float:
    """Median distance of a new image to its nearest known one, relative to that among the known ones.

    Features are standardised by the known images'.
    """
    mean, scale = known.mean(0), np.maximum(known.std(0), 1e-6 + 1e-3 * known.std(0).max())
    a, b = (known - mean) / scale, (new - mean) / scale
    among = cdist(a, a)
    np.fill_diagonal(among, np.inf)
    return float(np.median(cdist(b, a).min(1)) / max(float(np.median(among.min(1))), 1e-12))
