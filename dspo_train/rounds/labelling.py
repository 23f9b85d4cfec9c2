"""From drawn images to pairs, as far as the taste model is sure of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..taste.head import Head


@dataclass(frozen=True)
class Label:
    """Rows of the better and the worse image, and the probability that it is the other way round."""

    winner: int
    loser: int
    doubt: float


def labelled(head: Head, features: np.ndarray, prompts: Sequence[str], *, least: float, most: int) -> list[Label]:
    """Pair the images of each prompt, the better half with the worse half: first with middle, second with next.

    The probability is the mean over the ensemble, so that where its members disagree it is near one half.

    Args:
        features: (N, F), of N images.
        least: probability below which a pair is left out.
        most: of all pairs those of which the ensemble is surest.
    """
    by_prompt: dict[str, list[int]] = defaultdict(list)
    for row, prompt in enumerate(prompts):
        by_prompt[prompt].append(row)
    scores = head.scores(features).mean(1)
    sides: list[tuple[int, int]] = []
    for rows in by_prompt.values():
        ranked = sorted(rows, key=lambda row: -scores[row])
        half = len(ranked) // 2
        sides += zip(ranked[:half], ranked[len(ranked) - half :], strict=True)
    if not sides:
        return []
    winners, losers = (np.array(side) for side in zip(*sides, strict=True))
    sure = head.probability(features[winners], features[losers])
    order = [place for place in np.argsort(-sure, kind="stable").tolist() if sure[place] >= least][:most]
    return [Label(int(winners[place]), int(losers[place]), float(1 - sure[place])) for place in sorted(order)]
