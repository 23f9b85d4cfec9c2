"""How the images of a set stand against each other, by a taste."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .head import Head

OTHERS = 400
"""Each image is held against at most so many others, evenly spaced from the best to the worst."""
_ROWS = 64  # images at a time


def standing(head: Head, features: np.ndarray) -> np.ndarray:
    """(N,) share of the others to which each of (N, F) images is expected to be preferred, in [0, 1].

    It is the mean, over the others and the members of the head's ensemble, of the probability of being preferred. One
    half for a single image.
    """
    count = len(features)
    if count < 2:
        return np.full(count, 0.5)
    scores = head.scores(features)
    order = np.argsort(scores[:, 0], kind="stable")
    others = scores[order[np.linspace(0, count - 1, min(count, OTHERS)).round().astype(int)]]
    against = np.concatenate([_sums(scores[at : at + _ROWS], others) for at in range(0, count, _ROWS)])
    itself = count <= OTHERS  # it is among them, and preferred to itself in one case of two
    return (against - 0.5 * itself) / (len(others) - itself)


def ranked(head: Head, features: Mapping[str, np.ndarray]) -> tuple[tuple[str, float], ...]:
    """The images of (F,) features each, the best first, with the `standing` of each."""
    if not features:
        return ()
    shares = standing(head, np.stack([*features.values()]))
    order = np.argsort(-shares, kind="stable")
    names = [*features]
    return tuple((names[place], float(shares[place])) for place in order)


def _sums(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N,) sums over (M, E) others of the probability that (N, E) images are preferred, the mean of the members."""
    difference = scores[:, None] - others[None]
    return (0.5 * (1 + np.tanh(difference / 2))).mean(2).sum(1)
