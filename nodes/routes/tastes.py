"""How well the taste behind a set is known, and its images in the order of that taste."""

from __future__ import annotations

from typing import Any

from ..set_tastes import tastes
from .opening import opened

Json = dict[str, Any]


def told(set: str) -> Json:
    """What is known after all votes so far; null for a set whose images have no features."""
    fit = tastes().fresh(set, opened("sets", set))
    return {"taste": fit and fit.summary}


def ranked(set: str, offset: int, limit: int) -> Json:
    """The images of a set that are not removed, the best first; `share` of the others each is preferred to.

    `unseen`: images without features, which are not among them.
    """
    store = opened("sets", set)
    fit, prompts = tastes().fresh(set, store), store.images()
    found = [(image, share) for image, share in (fit.ranked if fit else ()) if image in prompts]
    page = [
        {"image": image, "prompt": prompts[image], "share": share} for image, share in found[offset : offset + limit]
    ]
    unseen = len(prompts) - len(found)
    return {"images": page, "total": len(found), "unseen": unseen, "taste": fit and fit.summary}
