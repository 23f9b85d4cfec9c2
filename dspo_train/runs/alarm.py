"""A run's alarm: one sentence if the model gets worse, whether or not it wins by that.

Preference losses only ask that the loser's error exceed the winner's. A model can do that by predicting both worse: the
margin grows, the accuracy often approaches 1, and the images fall apart. Far too high a learning rate makes it worse
without winning anything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import mean, variance
from typing import Any

from .reports import LATEST, spoils, winning_by_getting_worse, worse_without_winning

_CLEAR = 3.0  # standard errors
_IN_A_ROW = 2  # measurements on a fixed bank differ only by the weights, so few are enough

_ADVICE = "lower `optim.lr`, stop earlier, or raise `loss.sft_mix`, to 0.25 at first"  # as docs/taste.md found
HELD_OUT = (
    "On pairs that it was not trained on, the model separates winners from losers by predicting both worse, and image "
    f"quality will suffer: {_ADVICE}."
)
TRAINING = (
    "The model separates winners from losers by predicting both worse, and image quality will suffer: the error on "
    "winners is above its value at the start with an accuracy near 100%, or far above it at any accuracy; "
    f"{_ADVICE}."
)


GAMED = (
    "The score that the run trains on rises while the one that watches it falls: images may be made to please the "
    "scorer rather than you. Look at a preview; stop earlier, lower `optim.lr`, or set `loss.word_budget`."
)
FIRST = 5  # steps that tell whether anything is ranked
UNRANKED = (
    f"In the first {FIRST} steps no two next states were told apart, so that nothing is learned: lower the method's "
    "gap, set `stepwise.method` to one without, such as tailorpo, or raise `stepwise.pool`."
)
BEYOND = (
    "On average the drawn images score higher than any image that was judged: the taste only guesses there, and images "
    "may fall apart. Look at a preview; stop earlier, lower `optim.lr`, or set `loss.word_budget`."
)
WITHOUT_WINNING = (
    "The model predicts the images to prefer worse than before, and little or nothing is won by it. The taste may have "
    "carried it past them: look at a preview. If images fall apart, lower `optim.lr` by ten times; if that does not "
    "help, the labels may contradict each other."
)


def alarm(reports: Sequence[Mapping[str, Any]]) -> str | None:
    """A warning for the user, or None. Held-out pairs take precedence, because a step's own few pairs are noisy.

    Args:
        reports: a run's latest, in order, with and without measurements; `reports_needed` of them are enough.
    """
    if held_out_getting_worse(reports):
        return HELD_OUT
    if worse_without_winning(reports):
        return WITHOUT_WINNING
    return TRAINING if winning_by_getting_worse(reports) else None


def gamed(reports: Sequence[Mapping[str, Any]]) -> bool:
    """Has what a run trains on risen while what watches it has fallen, each clearly, from its first 20 steps to its
    latest 20? Images are drawn anew at each step, so that single scores differ a lot.
    """
    both = [report for report in reports if report.get("reward") is not None and report.get("watched") is not None]
    if len(both) < 2 * LATEST:
        return False
    return _change(both, "reward") > _CLEAR and _change(both, "watched") < -_CLEAR


def beyond(reports: Sequence[Mapping[str, Any]], ceiling: float) -> bool:
    """Is the mean reward of the latest 20 steps above the highest of the images that were judged?"""
    rewards = [report["reward"] for report in reports[-LATEST:] if report.get("reward") is not None]
    return len(rewards) == LATEST and mean(rewards) > ceiling


def unranked(reports: Sequence[Mapping[str, Any]]) -> bool:
    """Are these a run's first five on its own steps, and was nothing ranked in any, so that nothing is learned?"""
    return len(reports) == FIRST and all(report.get("ranked") == 0 for report in reports)


def _change(reports: Sequence[Mapping[str, Any]], name: str) -> float:
    """From the first steps to the latest, in standard errors."""
    parts = [[float(report[name]) for report in part] for part in (reports[:LATEST], reports[-LATEST:])]
    error = math.sqrt(sum(variance(part) / LATEST for part in parts))
    return (mean(parts[1]) - mean(parts[0])) / max(error, 1e-12)


def reports_needed(every: int) -> int:
    """How many of the latest reports `alarm` considers, if there is a measurement every `every` steps."""
    return max(LATEST, _IN_A_ROW * every)


def held_out_getting_worse(reports: Sequence[Mapping[str, Any]]) -> bool:
    """Do the last two measurements both show it?

    Either accuracy counts: that of draws stays lower, because at some timesteps winner and loser look alike.
    """
    measured = [report for report in reports if report.get("held_out_winner_change") is not None][-_IN_A_ROW:]
    return len(measured) == _IN_A_ROW and all(
        spoils(report["held_out_winner_change"], _accuracy(report)) for report in measured
    )


def _accuracy(report: Mapping[str, Any]) -> float:
    return max(report.get(name) or 0.0 for name in ("held_out_accuracy", "held_out_pair_accuracy"))
