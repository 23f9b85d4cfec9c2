"""Cross-validation by whole prompts: how wide the prior should be, and what answers a taste foretells."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..data.split import normalised
from ..files import digest
from .logistic import calibration, log_likelihood, maximum

TYPICAL = tuple(float(value) for value in np.geomspace(0.1, 30, 8))
"""Prior standard deviations that are tried, of the logit of a typical comparison."""
UNKNOWN = 1.0
"""Of them, where there are too few comparisons to choose."""
_HOPELESS = 10.0  # nats
_ROUGH = 1e-2  # nats; exact enough to compare widths, and for a resample
_MANY = 150  # comparisons, from which on five folds do


def units_of(prompts: Sequence[str]) -> np.ndarray:
    """(P,) int64: the number of each comparison's prompt; case and spacing are ignored."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(normalised(prompt), len(numbers)) for prompt in prompts], dtype=np.int64)


def folds_of(prompts: Sequence[str], seed: int) -> np.ndarray:
    """(P,) int64: folds of whole prompts and of nearly even size; ten of them, or five of many comparisons."""
    sizes: dict[str, int] = defaultdict(int)
    for prompt in prompts:
        sizes[normalised(prompt)] += 1
    filled = [0] * min(len(sizes), 10 if len(prompts) <= _MANY else 5)
    fold: dict[str, int] = {}
    for prompt in sorted(sizes, key=lambda prompt: (-sizes[prompt], digest(seed, prompt))):
        fold[prompt] = filled.index(min(filled))
        filled[fold[prompt]] += sizes[prompt]
    return np.array([fold[normalised(prompt)] for prompt in prompts], dtype=np.int64)


@dataclass(frozen=True)
class Problem:
    """Comparisons in coordinates: rows (P, R), target (P,), and the prompt of each as a number, units (P,)."""

    rows: np.ndarray
    target: np.ndarray
    units: np.ndarray
    gram: np.ndarray | None

    @staticmethod
    def of(rows: np.ndarray, target: np.ndarray, units: np.ndarray) -> Problem:
        return Problem(rows, target, units, rows @ rows.T if rows.shape[1] >= len(rows) else None)

    def widths(self) -> np.ndarray:
        """The widths to try, ascending: TYPICAL, as standard deviations of the weights."""
        return np.array(TYPICAL) / self.typical()

    def typical(self) -> float:
        """Length of a typical comparison's coordinates."""
        return float(np.sqrt(np.mean(np.sum(self.rows**2, axis=1)))) or 1.0 if len(self.rows) else 1.0

    def fit(
        self,
        chosen: np.ndarray,
        width: float,
        *,
        counts: np.ndarray | None = None,
        start: np.ndarray | None = None,
        close: float = 1e-6,
    ) -> np.ndarray:
        """(R,) weights by the comparisons of these indices; see `logistic.maximum`."""
        whole = None if self.gram is None else self.gram[np.ix_(chosen, chosen)]
        rows, target = self.rows[chosen], self.target[chosen]
        return maximum(rows, target, width, gram=whole, counts=counts, start=start, close=close)

    def likelihoods(self, chosen: np.ndarray, *held: np.ndarray) -> np.ndarray:
        """(H, W) nats of each set of held-out comparisons by fits of each width; each starts from the one before.

        Once every set is foretold far worse than by a narrower prior, the wider ones are not tried, and have -inf.
        """
        found, weights = np.full((len(held), len(TYPICAL)), -np.inf), None
        for place, width in enumerate(self.widths()):
            weights = self.fit(chosen, float(width), start=weights, close=_ROUGH)
            for row, part in enumerate(held):
                found[row, place] = log_likelihood(self.rows[part] @ weights, self.target[part]).sum()
            if (found[:, place] < found.max(1) - _HOPELESS).all():
                break
        return found

    def ensemble(self, chosen: np.ndarray, width: float, members: int, draw: np.random.Generator) -> np.ndarray:
        """(1 + members, R): the fit to all of them, and to resamples of whole prompts."""
        first = self.fit(chosen, width)
        names, place = np.unique(self.units[chosen], return_inverse=True)
        found = [first]
        for _ in range(members):
            times = np.bincount(draw.integers(len(names), size=len(names)), minlength=len(names))[place]
            seen = times > 0
            counts = times[seen].astype(np.float64)
            found.append(self.fit(chosen[seen], width, counts=counts, start=first, close=_ROUGH))
        return np.array(found)


@dataclass(frozen=True)
class Foretold:
    """What was foretold of each comparison by those of other prompts, the prior's width chosen by them alone.

    Attributes:
        width: the one that foretold the answers best, for the fit to everything.
        logits: (1 + members, P), not calibrated.
        half: (2, P) logits of the fit without members, by one half of the other prompts and by the other half.
        temperature: by which to divide `logits`.
        probability: (P,) that the first is better; each fold's calibrated by what was foretold of the other folds.
    """

    width: float
    logits: np.ndarray
    half: np.ndarray
    temperature: float
    probability: np.ndarray


def foretell(problem: Problem, folds: np.ndarray, members: int, seed: int) -> Foretold:
    """Nested cross-validation: each fold is foretold by weights, and a width, that were found without its answers.

    The width for fold k is the best of the fits without k and another fold j, on j. Such a fit serves both k and j, so
    K folds take K (K - 1) / 2 of them for each width.

    Args:
        folds: (P,) int64, at least two of them.
    """
    count, widths = int(folds.max()) + 1, problem.widths()
    inner = _without_two(problem, folds, count)
    likelihood = np.zeros(len(widths))
    logits, half = np.empty((1 + members, len(folds))), np.empty((2, len(folds)))
    for fold in range(count):
        kept, held = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        likelihood += problem.likelihoods(kept, held)[0]
        width = float(widths[int(np.argmax(inner[fold]))])
        draw = np.random.default_rng((seed, fold))
        logits[:, held] = problem.ensemble(kept, width, members, draw) @ problem.rows[held].T
        for row, part in enumerate(_halves(problem.units[kept], draw)):
            half[row, held] = problem.rows[held] @ problem.fit(kept[part], width)
    probability = np.empty(len(folds))
    for fold in range(count):
        held = folds == fold
        probability[held] = mean_probability(logits[:, held] / calibration(logits[:, ~held], problem.target[~held]))
    temperature = calibration(logits, problem.target)
    return Foretold(float(widths[int(np.argmax(likelihood))]), logits, half, temperature, probability)


def mean_probability(logits: np.ndarray) -> np.ndarray:
    """(P,) the mean over an ensemble, the first axis, of the sigmoid."""
    return np.mean(0.5 * (1 + np.tanh(logits / 2)), axis=0)


def _without_two(problem: Problem, folds: np.ndarray, count: int) -> np.ndarray:
    """(K, W) log-likelihood of the other folds, each by fits to neither it nor fold k."""
    found = np.zeros((count, len(problem.widths())))
    if count == 2:  # nothing would be left to fit to: the narrowest width that a prior gives without data
        found[:, int(np.argmin(np.abs(np.array(TYPICAL) - UNKNOWN)))] = 1.0
        return found
    for one, other in itertools.combinations(range(count), 2):
        kept = np.flatnonzero((folds != one) & (folds != other))
        on_one, on_other = problem.likelihoods(kept, np.flatnonzero(folds == one), np.flatnonzero(folds == other))
        found[one] += on_other
        found[other] += on_one
    return found


def _halves(units: np.ndarray, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the comparisons of one half of the prompts, drawn, and of the other half."""
    names = draw.permutation(np.unique(units))
    one = np.isin(units, names[: (len(names) + 1) // 2])
    return np.flatnonzero(one), np.flatnonzero(~one)
