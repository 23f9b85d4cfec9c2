"""Logistic regression on differences with a Gaussian prior, to the maximum of the posterior."""

from __future__ import annotations

import math

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize_scalar
from scipy.special import expit

_STEPS = 60


def maximum(
    rows: np.ndarray,
    target: np.ndarray,
    width: float,
    *,
    gram: np.ndarray | None = None,
    counts: np.ndarray | None = None,
    start: np.ndarray | None = None,
    close: float = 1e-6,
) -> np.ndarray:
    """The weights w that maximise sum c (t log s(z w) + (1 - t) log s(-z w)) - |w|^2 / (2 width^2), s the sigmoid.

    Newton's method with halved steps. The linear system is solved on the smaller side: in the weights, or by the
    identity of Woodbury in the comparisons.

    Args:
        rows: z, (P, R).
        target: t, (P,) in [0, 1].
        width: standard deviation of the prior on each weight.
        gram: rows @ rows.T, where the caller has it.
        counts: c, (P,) how often each comparison counts; once by default.
        start: (R,) weights to start from.
        close: nats below the maximum at which the last step is taken, which leaves about their square.

    Returns:
        (R,)
    """
    pairs, directions = rows.shape
    counts = np.ones(pairs) if counts is None else counts
    weights = np.zeros(directions) if start is None else start.copy()
    if not pairs:
        return np.zeros(directions)
    if gram is None and directions > pairs:
        gram = rows @ rows.T
    logits = rows @ weights
    value = _posterior(logits, weights, target, counts, width)
    for _ in range(_STEPS):
        share = expit(logits)
        slope = rows.T @ (counts * (target - share)) - weights / width**2
        step = _solve(rows, gram, np.sqrt(counts * share * (1 - share)), slope, width)
        gain = float(slope @ step)
        if gain / 2 < close:
            return weights + step
        moved, length = rows @ step, 1.0
        while True:
            new = _posterior(logits + length * moved, weights + length * step, target, counts, width)
            if new >= value + 1e-4 * length * gain or length < 1e-6:
                break
            length /= 2
        weights, logits, value = weights + length * step, logits + length * moved, new
    return weights


def log_likelihood(logits: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Of each comparison, in nats."""
    return -(target * np.logaddexp(0, -logits) + (1 - target) * np.logaddexp(0, logits))


def _posterior(logits: np.ndarray, weights: np.ndarray, target: np.ndarray, counts: np.ndarray, width: float) -> float:
    return float(counts @ log_likelihood(logits, target)) - float(weights @ weights) / (2 * width**2)


def _solve(rows: np.ndarray, gram: np.ndarray | None, root: np.ndarray, slope: np.ndarray, width: float) -> np.ndarray:
    """(1 / width^2 + rows' root^2 rows)^-1 slope."""
    pairs, directions = rows.shape
    if gram is None or directions <= pairs:
        scaled = rows * root[:, None]
        curve = scaled.T @ scaled
        curve.flat[:: directions + 1] += 1 / width**2
        return cho_solve(cho_factor(curve.T, overwrite_a=True, check_finite=False), slope, check_finite=False)
    inner = gram * (width * root)[:, None]
    inner *= width * root
    inner.flat[:: pairs + 1] += 1
    factor = cho_factor(inner.T, overwrite_a=True, check_finite=False)  # symmetric; in LAPACK's order it is not copied
    found = root * cho_solve(factor, root * (rows @ slope), check_finite=False)
    return width**2 * (slope - width**2 * (rows.T @ found))


def calibration(logits: np.ndarray, target: np.ndarray) -> float:
    """The temperature by which to divide logits so that their probabilities come true (Guo et al. 2017).

    Its logarithm has a standard normal prior, so that a few answers that all came true do not make it zero.

    Args:
        logits: (P,), or (E, P) of an ensemble whose probabilities are averaged.
        target: (P,) in [0, 1].
    """
    every = np.atleast_2d(logits)

    def loss(logarithm: float) -> float:
        share = np.clip(expit(every * math.exp(-logarithm)).mean(0), 1e-12, 1 - 1e-12)
        fit = target @ np.log(share) + (1 - target) @ np.log1p(-share)
        return logarithm**2 / 2 - float(fit)

    grid = np.linspace(-4, 4, 17)
    middle = grid[int(np.argmin([loss(value) for value in grid]))]
    found = minimize_scalar(loss, bounds=(middle - 0.5, middle + 0.5), method="bounded")
    return math.exp(float(found.x))
