"""From a set's votes to a taste: looks at what was not looked at yet, and fits."""

from __future__ import annotations

from dataclasses import dataclass

from ..dspo_train.pairs import Scan
from ..dspo_train.taste.features import ImageFeatures
from ..dspo_train.taste.looking import OnLook, fit_scan, look_at
from ..dspo_train.taste.model import TasteModel
from . import collecting, places
from .looking import shown_progress


@dataclass(frozen=True)
class Learning:
    """What a taste is to be called, the node that shows the progress, and the name of the model; empty if unknown."""

    name: str
    node_id: str
    seen_by: str = ""


def learned(scan: Scan, features: ImageFeatures, learning: Learning) -> TasteModel:
    """The taste that pairs, or liked and disliked images, show.

    Features of a collected set are kept beside it, and of other folders in one cache for all.

    Raises:
        DatasetError: there is nothing to learn from.
        ModelError: the model gives values that are not finite.
        RunError: the features cannot be written.
    """
    progress = shown_progress(learning.node_id, "Looking")
    collected = scan.layout == "collected"
    if collected:
        scan.usable()
        _look_at_all(scan, features, progress)
    cache = scan.folder if collected else places.features()
    return fit_scan(scan, features, cache, progress, name=learning.name, seen_by=learning.seen_by)


def _look_at_all(scan: Scan, features: ImageFeatures, progress: OnLook) -> None:
    """Look at the images without a vote too: the panel chooses its questions by how they look."""
    groups = collecting.stores.get(scan.folder).groups()
    prompts = {scan.folder / stored.image: group.prompt for group in groups for stored in group.images}
    there = [image for image in prompts if image.is_file()]
    if there:
        look_at(there, [prompts[image] for image in there], features, scan.folder, progress)
