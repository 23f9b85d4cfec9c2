"""How well a taste is known, in figures and in a sentence."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..data.split import normalised
from ..evaluate.winrate import win_rate

FEWEST = 12
"""Decided comparisons below which there is no estimate."""
ENOUGH = 20
"""About as many clicks as make an estimate worth telling."""
_GAIN = 0.02  # by how much more clicks should raise the accuracy to be worth telling
_FAR = 4  # times the clicks so far, beyond which the curve says little
_BINS = (0.5, 0.6, 0.7, 0.8, 0.9)


Outlook = Literal["few", "one_prompt", "chance", "more", "little", "unclear"]

_FIGURES = "{rate:.0%} ({low:.0%} to {high:.0%})"
_TEXTS: dict[Outlook, str] = {
    "chance": f"Your taste is not known yet: {_FIGURES}, and a coin has 50%.",
    "more": f"We know your taste to {_FIGURES}; about {{more}} more clicks would tell more.",
    "little": f"We know your taste to {_FIGURES}; more clicks would tell little more.",
    "unclear": f"We know your taste to {_FIGURES}; what more clicks would tell is not clear yet.",
}


@dataclass(frozen=True)
class Assessment:
    """What answers to unseen prompts were foretold; NaN where there are too few clicks to say.

    Attributes:
        pairs, prompts: that the taste was fitted to.
        accuracy, low, high: share of decided comparisons whose better image has the higher score, out of fold by whole
            prompts, and its 95% interval with the prompt as the unit (`agreement`).
        log_loss: of the calibrated probabilities, out of fold, in nats; 0.693 is a coin's.
        reliability: (mean probability foretold, share that came true, count) for each filled tenth of [0.5, 1].
        half_accuracy: with half of the prompts to learn from.
        more: further clicks that would raise the accuracy by two points; None where the curve is flat or unknown.
        text: one sentence.
        outlook: what more clicks would do: `more`, `little` or `unclear`; `chance` where nothing is known for certain,
            and `few` or `one_prompt` where there is no estimate.
    """

    pairs: int
    prompts: int
    accuracy: float
    low: float
    high: float
    log_loss: float
    reliability: tuple[tuple[float, float, int], ...]
    half_accuracy: float | None
    more: int | None
    text: str
    outlook: Outlook = "few"


def unknown(pairs: int, prompts: int, decided: int, counted_prompts: int) -> Assessment:
    """Where no estimate can be made."""
    text, outlook = f"Too few clicks to say: {decided} of about {ENOUGH}.", "few"
    if decided >= FEWEST and counted_prompts < 2:
        outlook = "one_prompt"
        text = "All clicks are on one prompt, so how well we know your taste cannot be said; click on others too."
    nan = math.nan
    return Assessment(pairs, prompts, nan, nan, nan, nan, (), None, None, text, outlook)


def assess(
    prompts: Sequence[str],
    target: np.ndarray,
    counted: np.ndarray,
    score: np.ndarray,
    half: np.ndarray,
    probability: np.ndarray,
) -> Assessment:
    """From what was foretold out of fold of P comparisons.

    Args:
        target: (P,) probability that the first is better; ties do not count in any figure.
        counted: (P,) bool, those that may count.
        score: (P,) difference of scores, first less second.
        half: (2, P) the same, by one half of the other prompts and by the other half.
        probability: (P,) that the first is better, calibrated.
    """
    chosen = counted & (target != 0.5)
    won, names = (
        target[chosen] > 0.5,
        [normalised(prompt) for prompt, takes in zip(prompts, chosen, strict=True) if takes],
    )
    right, half_right = _right(score[chosen], won), _right(half[:, chosen], won).mean(0)
    rate = win_rate(zip(names, right.tolist(), strict=True), evidence=1 / (2 - agreement(half[0], half[1])))
    likely = np.clip(np.where(won, probability[chosen], 1 - probability[chosen]), 1e-12, 1)
    known = len(target), len({normalised(prompt) for prompt in prompts})
    gain, error = _gain(names, right - half_right)
    more = _more(gain, error, rate.rate, known[0]) if rate.low > 0.5 else None
    figures = rate.rate, rate.low, rate.high, float(-np.log(likely).mean())
    outlook = _outlook(gain, error, more) if rate.low > 0.5 else "chance"
    text = _TEXTS[outlook].format(rate=rate.rate, low=rate.low, high=rate.high, more=more)
    reliability = reliability_of(probability[chosen], won)
    return Assessment(*known, *figures, reliability, float(half_right.mean()), more, text, outlook)


def reliability_of(probability: np.ndarray, won: np.ndarray) -> tuple[tuple[float, float, int], ...]:
    """(mean probability, share that came true, count) of the likelier side, for each filled tenth of [0.5, 1].

    >>> reliability_of(np.array([0.9, 0.05, 0.55]), np.array([True, False, False]))
    ((0.55, 0.0, 1), (0.925, 1.0, 2))
    """
    sure, true = np.maximum(probability, 1 - probability), (probability > 0.5) == won
    bins = np.digitize(sure, _BINS) - 1
    return tuple(
        (float(sure[bins == place].mean()), float(true[bins == place].mean()), int((bins == place).sum()))
        for place in range(len(_BINS))
        if (bins == place).any()
    )


def agreement(one: np.ndarray, other: np.ndarray) -> float:
    """The correlation of scores by fits that share no prompt, at least zero; both have a mean of zero by symmetry.

    Out-of-fold answers are not independent: each has a part in the fits that foretell the others. Where there is no
    taste to find, a pair of answers is right or wrong together both ways round, and the share that is right has twice
    the variance of as many independent answers (Bengio & Grandvalet 2004 show that no estimate of it is unbiased).
    Where the clicks determine the fits, it has the same. An interval at 1 / (2 - agreement) of the evidence covered the
    accuracy on new images in 97% of simulated sets with and without a taste, and one at all of it in 90%.
    """
    size = math.sqrt(float(one @ one) * float(other @ other))
    return max(0.0, float(one @ other) / size) if size > 0 else 0.0


def _right(score: np.ndarray, won: np.ndarray) -> np.ndarray:
    """1 where the better image has the higher score, 0.5 where both have the same."""
    return 0.5 * (1 + np.sign(score) * np.where(won, 1.0, -1.0))


def _gain(names: Sequence[str], better: np.ndarray) -> tuple[float, float]:
    """What all prompts gave over half of them, in accuracy, and the standard error with the prompt as the unit."""
    sums: dict[str, float] = defaultdict(float)
    mean = float(better.mean())
    for name, value in zip(names, better.tolist(), strict=True):
        sums[name] += value - mean
    count = len(sums)
    return mean, math.sqrt(count / (count - 1) * sum(value**2 for value in sums.values())) / len(names)


def _more(gain: float, error: float, accuracy: float, pairs: int) -> int | None:
    """Clicks for two points more, if what is still missing falls with the square root of the clicks.

    If the accuracy after n clicks is a - b / sqrt(n), twice the clicks gave b (sqrt(2) - 1) / sqrt(n); and
    a is at most 1.
    """
    if gain <= error:
        return None
    missing = min(gain / (math.sqrt(2) - 1), 1 - accuracy)
    if missing <= _GAIN:
        return None
    more = pairs * ((1 - _GAIN / missing) ** -2 - 1)
    return math.ceil(more / 10) * 10 if more <= _FAR * pairs else None


def _outlook(gain: float, error: float, more: int | None) -> Outlook:
    if more is not None:
        return "more"
    return "unclear" if gain <= error and gain + error > _GAIN else "little"
