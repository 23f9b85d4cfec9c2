"""What a folder holds, in a few figures and pictures: for lists."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..exceptions import DatasetError
from .discover import stamp
from .listing import list_folder
from .scan import scan_folder
from .types import Scan

_SHOWN = 4
_KEPT = 4000  # folders


@dataclass(frozen=True, slots=True)
class Glimpse:
    """
    Attributes:
        pairs: that can be trained on.
        rated: liked and disliked images that can be trained on, of a folder without pairs.
        images: in the folder and below.
        shown: the first few, winners and liked ones where they are known.
    """

    pairs: int
    rated: int
    images: int
    shown: tuple[Path, ...]


def glimpse(folder: Path) -> Glimpse:
    """Look at a folder, or remember the last look if no file has changed since.

    Raises:
        DatasetError: it cannot be read.
    """
    return _looked(folder, stamp(folder))


@lru_cache(maxsize=_KEPT)
def _looked(folder: Path, stamp: str) -> Glimpse:
    listing = list_folder(folder)
    images = [folder / name for name in listing.images]
    try:
        scan = scan_folder(folder)
    except DatasetError:  # pictures, but no pairs
        return Glimpse(0, 0, len(images), tuple(images[:_SHOWN]))
    rated = (*scan.liked, *scan.disliked)
    shown = tuple(dict.fromkeys(_preferred(scan)))[:_SHOWN]
    return Glimpse(len(scan.pairs), len(rated), len(images), shown or tuple(images[:_SHOWN]))


def _preferred(scan: Scan) -> list[Path]:
    return [pair.winner for pair in scan.pairs] or [it.image for it in scan.liked]
