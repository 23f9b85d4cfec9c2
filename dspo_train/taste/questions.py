"""Which of a set's questions tell most about the taste behind it; `preferences.guided` asks them in that order."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..preferences.entries import ImagePair, canonical
from .head import Head, mutual_information

NEAR = 1 / 3
"""Images at less than this share of the typical distance of two images of one prompt are near-duplicates."""
LAST = -1.0
"""The worth of a pair of near-duplicates: a person sees no difference, so the answer says nothing."""


@dataclass(frozen=True)
class Questions:
    """What answers would tell; implements `preferences.Guide`.

    Attributes:
        worths: nats by pair; a pair that it does not know, as of an image without features, is worth 0.
        clicks: how many the set had.
    """

    worths: Mapping[ImagePair, float]
    clicks: int

    def worth(self, pair: ImagePair) -> float:
        return self.worths.get(pair, 0.0)


def most_telling(
    head: Head, features: Mapping[str, np.ndarray], groups: Iterable[Sequence[str]], clicks: int
) -> Questions:
    """The worth of every pair within a group: the information in nats that the answer gives on which member of the
    head's ensemble is right (BALD, Houlsby et al. 2011, arXiv 1112.5745), and LAST for near-duplicates.

    Args:
        features: (F,) of each image.
        groups: images that are compared with each other; those without features are left out.
    """
    known = [[image for image in dict.fromkeys(group) if image in features] for group in groups]
    parts = [_of_group(head, np.stack([features[image] for image in group])) for group in known if len(group) > 1]
    pairs = [pair for group in known if len(group) > 1 for pair in itertools.combinations(group, 2)]
    if not pairs:
        return Questions({}, clicks)
    told, distance = (np.concatenate(each) for each in zip(*parts, strict=True))
    worth = np.where(near_duplicates(distance), LAST, told)
    return Questions({canonical(*pair): float(it) for pair, it in zip(pairs, worth, strict=True)}, clicks)


def near_duplicates(distance: np.ndarray) -> np.ndarray:
    """(P,) bool: much closer than the median of the (P,) distances of images of one prompt."""
    return distance < NEAR * np.median(distance)


def _of_group(head: Head, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(P,) nats and (P,) distances of standardised features, of all pairs of (N, F)."""
    first, second = np.triu_indices(len(features), 1)  # in the order of itertools.combinations
    scores = head.scores(features)
    scaled = ((features - head.mean) / head.scale).astype(np.float32)
    scaled -= scaled.mean(0)  # of one prompt's images: their differences are left, and little is rounded off
    square = (scaled**2).sum(1, dtype=np.float64)
    product = (scaled @ scaled.T)[first, second]
    distance = np.sqrt(np.maximum(square[first] + square[second] - 2 * product, 0))
    return mutual_information((scores[first] - scores[second]).T), distance
