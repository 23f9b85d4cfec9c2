"""The directions in which compared images differ: features of any number become coordinates in their span."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .comparisons import Comparisons

_BLOCK = 2048  # features at a time, in float64
_EXACT = 1200  # rows of the Gram matrix up to which nothing is left out
_WORK = 1.0e9  # comparisons times directions squared, about what a step of Newton's method costs
_LEAST = 0.02  # of the typical spread: a feature that hardly varies is not blown up to the size of the others


@dataclass(frozen=True)
class Span:
    """Coordinates of the differences of images.

    Attributes:
        mean, scale: (F,) float64, of the features.
        rows: (P, R) float64; their inner products are those of the standardised differences.
        mix: (R, M) and basis, (M, 2) int64: direction r is the sum over m of mix[r, m] times a standardised image
            (basis[m] = row, -1) or difference of images (both rows).
    """

    mean: np.ndarray
    scale: np.ndarray
    rows: np.ndarray
    mix: np.ndarray
    basis: np.ndarray

    def weights(self, inside: np.ndarray, features: np.ndarray) -> np.ndarray:
        """(E, F) weights on standardised features, from (E, R) weights on coordinates."""
        mixed = inside @ self.mix
        found = np.empty((len(inside), features.shape[1]))
        for part in _parts(features.shape[1]):
            found[:, part] = mixed @ _taken(_standard(features, self, part), self.basis)
        return found


def span_of(comparisons: Comparisons, features: np.ndarray, seed: int = 0) -> Span:
    """Coordinates in the span of the compared images, by the eigenvectors of a Gram matrix.

    The Gram matrix is of the images or of their differences, whichever are fewer. After it, no cost depends on the
    number of features. Up to 1,200 rows nothing is lost. Of more, that many are drawn as the basis, and of their
    directions the longest are kept, fewer the more comparisons there are, so that the time stays in bounds.

    Args:
        features: (N, F), in the order of `comparisons.images`.
    """
    mean, scale = _spread(features)
    frame = Span(mean, scale, np.empty((0, 0)), np.empty((0, 0)), np.empty((0, 2), dtype=np.int64))
    pairs = np.stack([comparisons.first, comparisons.second], axis=1)
    images = np.stack([np.arange(len(features)), np.full(len(features), -1)], axis=1)
    basis = images if len(images) < len(pairs) else pairs
    exact = len(basis) <= _EXACT
    if not exact:
        drawn = np.random.default_rng(seed).choice(len(basis), _EXACT, replace=False)
        basis = basis[np.sort(drawn)]
    gram, cross = np.zeros((len(basis), len(basis))), np.zeros((len(pairs), len(basis)))
    for part in _parts(features.shape[1]):
        block = _standard(features, frame, part)
        own = _taken(block, basis)
        gram += own @ own.T
        if basis is not pairs:
            projected = block @ own.T
            cross += projected[comparisons.first] - projected[comparisons.second]
    if basis is pairs:
        cross = gram
    values, vectors = np.linalg.eigh(gram)
    kept = values > 1e-10 * max(float(values.max(initial=0.0)), 1e-300)
    values, vectors = values[kept], vectors[:, kept]
    if not exact:
        most = int(math.sqrt(_WORK / len(pairs)))
        values, vectors = values[-most:], vectors[:, -most:]
    mix = vectors.T / np.sqrt(values)[:, None]
    return Span(mean, scale, cross @ mix.T, mix, basis)


def _parts(count: int) -> list[slice]:
    return [slice(start, start + _BLOCK) for start in range(0, count, _BLOCK)]


def _spread(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and scale of each feature."""
    if not len(features):
        return np.zeros(features.shape[1]), np.ones(features.shape[1])
    mean, spread = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64)
    typical = float(np.sqrt(np.mean(spread**2))) if spread.size else 0.0
    return mean, np.maximum(spread, _LEAST * typical) if typical > 0 else np.ones_like(mean)


def _standard(features: np.ndarray, frame: Span, part: slice) -> np.ndarray:
    return (features[:, part] - frame.mean[part]) / frame.scale[part]


def _taken(block: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Rows of the basis: images, or their differences."""
    first, second = basis[:, 0], basis[:, 1]
    return block[first] if len(second) and second[0] < 0 else block[first] - block[second]
