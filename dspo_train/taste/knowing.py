"""What the votes of a set say of the taste, by features that are kept beside it: no model is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..preferences import Judged, PreferenceStore
from .assessment import Assessment
from .comparisons import from_store
from .head import Head, fit_head
from .kept import kept_features


@dataclass(frozen=True)
class Known:
    """A taste as far as the votes go.

    Attributes:
        identity: of the features.
        features: name of an image below the set's folder -> (F,), also of those that no vote is about.
    """

    head: Head
    assessment: Assessment
    identity: str
    features: Mapping[str, np.ndarray]


def known(
    store: PreferenceStore, folder: Path, at_random: Callable[[Judged], bool] | None = None, *, members: int = 16
) -> Known | None:
    """The taste that the votes of a set show; None where no features of its images are kept.

    It takes a second for a few hundred votes, so the caller keeps it until there are new ones. Where features of
    several identities are kept, those of the most images count. Votes on images without features are left out.

    Args:
        folder: of the set.
        at_random: see `from_store`.
    """
    names = {name for group in store.groups() for name in group.names}
    kept = {
        identity: {name: row for name, row in rows.items() if name in names}
        for identity, rows in kept_features(folder).items()
    }
    identity = max(sorted(kept), key=lambda each: len(kept[each]), default="")
    if not kept.get(identity):
        return None
    rows = kept[identity]
    comparisons = from_store(store, at_random).narrowed(rows)
    width = len(next(iter(rows.values())))
    seen = np.array([rows[image] for image in comparisons.images], dtype=np.float32).reshape(-1, width)
    head, assessment = fit_head(comparisons, seen, members=members)
    return Known(head, assessment, identity, rows)
