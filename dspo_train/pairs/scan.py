"""Read a folder in whichever layout it has, and list everything that is wrong with it."""

from __future__ import annotations

import os
from pathlib import Path

from ..exceptions import DatasetError
from ..preferences.log import LOG_NAME
from . import paired, unpaired
from .captions import CaptionFinder
from .checks import CheckedImages
from .collected import read_opinions
from .leftovers import leftovers
from .listing import Listing, list_folder, refuse_without_images
from .parquet import read_parquet
from .readers import Readers
from .readings import LayoutReading
from .tables import read_table
from .types import UNPAIRED, Scan
from .unpaired_layouts import read_unpaired, surely_unpaired, unpaired_layout
from .unpaired_tables import CAPTION_TABLES

_LAYOUTS = (
    "name_w.png + name_l.png; chosen/name.png + rejected/name.png; metadata.jsonl or .csv with prompt, image_0, "
    "image_1 and preference; or ranked sets name_0.png, name_1.png, ... (best first)"
)


def scan_folder(folder: str | os.PathLike[str], *, deep: bool = False, allow_empty_captions: bool = False) -> Scan:
    """Read a folder of pairs, or of liked and disliked images.

    Pairs: where several layouts appear, the first of these that has a complete pair is read and `Scan.layout` says
    which: a collected set (`preferences.jsonl`), a table (`metadata.jsonl`, then `metadata.csv`, then parquet),
    sub-folders, suffixes, ranked sets. A suffix is the last part of a name: `cat_0_w.png` is the winner of `cat_0`,
    `cat_w_0.png` the best of `cat_w`. A folder that cannot be read as pairs may be unpaired; `unpaired_layouts.py`
    says when. The folder is listed once, each reader runs once at most, and each image is looked at once.

    Args:
        deep: decode every image. Slow; finds damaged pixels, and equal images in differently compressed files.
        allow_empty_captions: keep what has no prompt, with an empty one, instead of leaving it out.

    Raises:
        DatasetError: the folder is missing, unreadable or empty, holds no image or no known layout, or only ties.
    """
    readers = Readers(list_folder(Path(folder)))
    layout = unpaired_layout(readers)
    if layout is not None:
        refuse_without_images(readers.listing)
    reading = _read_pairs(readers) if layout is None else read_unpaired(readers, layout)
    return _scan(readers.listing, reading, deep, allow_empty_captions)


def scan_opinions(folder: str | os.PathLike[str], *, allow_empty_captions: bool = False) -> Scan:
    """Read a collected set as liked and disliked images, where some were called bad; see `preferences.Opinion`.

    Raises:
        DatasetError: the folder is no collected set, or nothing in it was called bad.
    """
    listing = list_folder(Path(folder))
    reading = read_opinions(listing) if LOG_NAME in listing.tables else None
    if reading is None:
        raise DatasetError(f"{listing.root}: is not a set collected here; only those are read as opinions")
    if not (reading.images or reading.defects):
        raise DatasetError(
            f"{listing.root}: no image was called bad, so there are no opinions on single images; mark the bad ones "
            "while you vote, or read the set as pairs"
        )
    return _scan(listing, reading, deep=False, allow_empty=allow_empty_captions)


def scan_pairs(folder: str | os.PathLike[str], *, deep: bool = False, allow_empty_captions: bool = False) -> Scan:
    """Read a folder as pairs. Arguments as of `scan_folder`.

    Two folders `chosen/` and `rejected/` without a name in common are pairs whose partners are missing.

    Raises:
        DatasetError: see `scan_folder`; or the folder holds liked and disliked images without pairs.
    """
    readers = Readers(list_folder(Path(folder)))
    if surely_unpaired(readers):
        raise DatasetError(
            f"{readers.listing.root}: holds liked and disliked images without pairs, which train as they are with the "
            "objective diffusion_kto or sft; where pairs are needed, name the images as pairs"
        )
    return _scan(readers.listing, _read_pairs(readers), deep, allow_empty_captions)


def _scan(listing: Listing, reading: LayoutReading, deep: bool, allow_empty: bool) -> Scan:
    root, images, captions = listing.root, CheckedImages(listing.root, deep=deep), CaptionFinder(listing.root)
    pairs, rated, empty = [], [], []
    if reading.layout in UNPAIRED:
        rated, defects, clashes = unpaired.usable_images(reading, images, captions, allow_empty=allow_empty)
        empty = unpaired.empty_sides(rated)
    else:
        pairs, defects, clashes = paired.usable_pairs(reading, images, captions, allow_empty=allow_empty)
    found = [*empty, *listing.defects, *reading.defects, *defects, *images.defects, *captions.defects, *clashes]
    found += leftovers(listing, reading)
    if reading.ties and not pairs and not any(defect.fatal for defect in found):
        raise DatasetError(
            f"{root}: all {reading.ties} pairs are ties, so there is no preference to learn; judge more pairs"
        )
    return Scan(root, reading.layout, tuple(pairs), tuple(rated), reading.ties, tuple(dict.fromkeys(found)))


def _read_pairs(readers: Readers) -> LayoutReading:
    table = _read_collected(readers) or _read_table(readers)
    if table is not None:
        return table
    refuse_without_images(readers.listing)
    readings = [readers.subfolders, readers.suffixes, readers.ranked]
    chosen = next((reading for reading in readings if reading.pairs), None)
    if chosen is None:
        chosen = next((reading for reading in readings if any(defect.fatal for defect in reading.defects)), None)
    if chosen is None:
        shown = ", ".join(readers.listing.images[:3])
        raise DatasetError(
            f"{readers.listing.root}: cannot tell who won from names such as {shown}; known layouts: {_LAYOUTS}"
        )
    return chosen


def _read_collected(readers: Readers) -> LayoutReading | None:
    reading = readers.collected
    if reading and not (reading.pairs or reading.defects or reading.ties):
        root = readers.listing.root
        raise DatasetError(
            "Vote first, in the DSPO panel (the thumb in ComfyUI's sidebar), then run this again: of "
            f"{root.name} no vote says who won yet ({root})"
        )
    return reading


def _read_table(readers: Readers) -> LayoutReading | None:
    listing, parquet = readers.listing, readers.parquet_files
    name = next(iter(readers.top_tables(*CAPTION_TABLES)), None)
    if name is not None:
        if not listing.images:
            raise DatasetError(f"{listing.root}: {name} is there, but no PNG, JPEG or WebP image")
        return _not_empty(listing, name, read_table(listing, name, readers.table(name)))
    return _not_empty(listing, parquet[0], read_parquet(listing, parquet)) if parquet else None


def _not_empty(listing: Listing, name: str, reading: LayoutReading) -> LayoutReading:
    if not (reading.pairs or reading.defects or reading.ties):
        raise DatasetError(f"{listing.root / name}: holds no rows; write one pair on each line")
    return reading
