"""A taste as a linear score of an image's features, fitted to comparisons: the model of Bradley and Terry (1952).

The probability that one image is preferred to another is the sigmoid of the difference of their scores.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .assessment import FEWEST, Assessment, assess, unknown
from .comparisons import Comparisons
from .crossval import UNKNOWN, Problem, folds_of, foretell, mean_probability, units_of
from .span import span_of

__all__ = ["Assessment", "Head", "fit_head"]

_ROWS = 64  # images at a time


@dataclass(frozen=True)
class Head:
    """What a person prefers, by F features of an image.

    Attributes:
        mean, scale: (F,) by which features are standardised.
        weights: (E, F) on standardised features. Row 0 was fitted to all comparisons, the others to resamples of
            whole prompts.
        temperature: by which differences of scores are divided so that their probabilities come true.
        prior: standard deviation of the Gaussian prior on each weight.
    """

    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    temperature: float
    prior: float

    def scores(self, features: np.ndarray) -> np.ndarray:
        """(N, E) by each member, in logits, from (N, F) features; only differences have a meaning.

        Raises:
            ValueError: another number of features.
        """
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise ValueError(f"expected features of shape (N, {len(self.mean)}), got {features.shape}")
        scaled = (self.weights / self.scale).T / self.temperature
        parts = [(features[at : at + _ROWS] - self.mean) @ scaled for at in range(0, len(features), _ROWS)]
        return np.concatenate(parts) if parts else np.empty((0, len(self.weights)))

    def score(self, features: np.ndarray) -> np.ndarray:
        """(N,) by the fit to all comparisons, in logits."""
        return Head(self.mean, self.scale, self.weights[:1], self.temperature, self.prior).scores(features)[:, 0]

    def probability(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """(P,) that the first image is preferred, from (P, F) features each: the mean over the members."""
        return mean_probability(self._differences(first, second))

    def disagreement(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """(P,) nats that the answer would tell of which member is right: their mutual information (Houlsby 2011)."""
        return mutual_information(self._differences(first, second))

    def _differences(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return (self.scores(first) - self.scores(second)).T


def mutual_information(logits: np.ndarray) -> np.ndarray:
    """(P,) nats between the answer and the member, from (E, P) logits."""
    each = 0.5 * (1 + np.tanh(logits / 2))
    return np.maximum(_entropy(each.mean(0)) - _entropy(each).mean(0), 0.0)


def fit_head(
    comparisons: Comparisons, features: np.ndarray, *, seed: int = 0, members: int = 16
) -> tuple[Head, Assessment]:
    """Logistic regression on differences of features, without an intercept, and how well it foretells.

    The prior's width is the one that best foretells the answers on whole prompts that were left out; the assessment
    chooses it anew within each fold (`crossval.foretell`). With fewer than twelve decided comparisons or two prompts,
    the width is a guess, and nothing is said of the accuracy.

    Args:
        features: (N, F), in the order of `comparisons.images`.
        members: fits to resamples of whole prompts, for `Head.probability` and `Head.disagreement`.

    Raises:
        ValueError: not one row of features for each image, or a value that is not finite.
    """
    if features.ndim != 2 or len(features) != len(comparisons.images):
        raise ValueError(f"expected features of {len(comparisons.images)} images, got shape {features.shape}")
    if not np.isfinite(features).all():
        row = int(np.argmin(np.isfinite(features).all(1)))
        raise ValueError(f"the features of {comparisons.images[row]} hold values that are not finite")
    span = span_of(comparisons, features, seed)
    problem = Problem.of(span.rows, comparisons.target, units_of(comparisons.prompt))
    every, draw = np.arange(len(comparisons)), np.random.default_rng(seed)
    chosen = comparisons.counted & comparisons.decided
    if int(chosen.sum()) < FEWEST or len(np.unique(problem.units[chosen])) < 2:
        counts = len(comparisons), len(np.unique(problem.units)), int(chosen.sum())
        width, temperature = UNKNOWN / problem.typical(), 1.0
        assessment = unknown(*counts, len(np.unique(problem.units[chosen])))
    else:
        found = foretell(problem, folds_of(comparisons.prompt, seed), members, seed)
        width, temperature = found.width, found.temperature
        given = comparisons.prompt, comparisons.target, comparisons.counted
        assessment = assess(*given, found.logits[0], found.half, found.probability)
    inside = problem.ensemble(every, width, members, draw)
    return Head(span.mean, span.scale, span.weights(inside, features), temperature, width), assessment


def _entropy(share: np.ndarray) -> np.ndarray:
    """Nats of a yes or no."""
    inside = np.clip(share, 1e-300, 1.0)
    other = np.clip(1 - share, 1e-300, 1.0)
    return -(share * np.log(inside) + (1 - share) * np.log(other))
