"""Images in the order of their scores."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np


def best_first(scores: np.ndarray, groups: Sequence[Hashable], most: int = 0) -> list[int]:
    """Places of images, group by group in the order in which groups appear, and in each the best image first.

    Of equal scores the earlier image comes first.

    >>> best_first(np.array([0.1, 0.9, 0.5, 0.7]), ["cat", "dog", "cat", "dog"])
    [2, 0, 1, 3]
    >>> best_first(np.array([0.1, 0.9, 0.5, 0.7]), ["cat", "dog", "cat", "dog"], 1)
    [2, 1]

    Args:
        scores: (N,)
        most: of each group; 0 for all.
    """
    members: dict[Hashable, list[int]] = {}
    for place, group in enumerate(groups):
        members.setdefault(group, []).append(place)
    ranked = (sorted(places, key=lambda place: -float(scores[place])) for places in members.values())
    return [place for places in ranked for place in (places[:most] if most else places)]
