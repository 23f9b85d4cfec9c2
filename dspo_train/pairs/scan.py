"""Find the pairs of a folder, whichever layout it has, and everything that is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ..exceptions import DatasetError
from ..preferences.log import LOG_NAME
from .captions import Captions
from .checks import Judged, Pictures, same_picture, settle, shape_warning, unique
from .collected import read_collected
from .folders import read_ranked, read_subfolders, read_suffixes
from .listing import Listing, list_folder, refuse_without_images
from .parquet import read_parquet
from .tables import read_rows, rows_csv, rows_jsonl
from .types import Candidate, Defect, PairScan, PreferencePair, Reading
from .unpaired_layouts import surely_unpaired

_BY_NAME = (read_subfolders, read_suffixes, read_ranked)

_LAYOUTS = (
    "name_w.png + name_l.png; chosen/name.png + rejected/name.png; metadata.jsonl or .csv with prompt, image_0, "
    "image_1 and preference; or ranked sets name_0.png, name_1.png, ... (best first)"
)


def scan_pairs(folder: str | os.PathLike[str], *, deep: bool = False, allow_empty_captions: bool = False) -> PairScan:
    """Read a dataset folder in whichever layout it has.

    Where several layouts appear, the first of these that has a complete pair is read and `PairScan.layout` says
    which: a collected set (`preferences.jsonl`), a table (`metadata.jsonl`, then `metadata.csv`, then parquet),
    sub-folders, suffixes, ranked sets. The readers in `collected.py`, `tables.py` and `folders.py` describe each. A
    suffix is the last part of a name: `cat_0_w.png` is the winner of `cat_0`, `cat_w_0.png` the best of `cat_w`.

    Args:
        deep: decode every picture. Slow; finds damaged pixels, and equal pictures in differently compressed files.
        allow_empty_captions: keep a pair without a prompt, with an empty one, instead of leaving it out.

    Raises:
        DatasetError: the folder is missing, unreadable or empty, holds no picture or no known layout, or only ties.
    """
    root = Path(folder)
    listing = list_folder(root)
    reading = _read(listing)
    pictures, captions = Pictures(root, deep=deep), Captions(root)
    defects = [*listing.defects, *reading.defects]
    complete = list(_complete(reading, pictures, captions, defects, allow_empty_captions))
    kept, clashes = settle(complete)
    found = [*defects, *pictures.defects, *captions.defects, *clashes]
    scan = PairScan(root, reading.layout, tuple(item.pair for item in kept), reading.ties, tuple(dict.fromkeys(found)))
    if scan.ties and not scan.pairs and not any(defect.fatal for defect in scan.defects):
        raise DatasetError(
            f"{root}: all {scan.ties} pairs are ties, so there is no preference to learn; judge more pairs"
        )
    return scan


def _read(listing: Listing) -> Reading:
    if surely_unpaired(listing):
        raise DatasetError(
            f"{listing.root}: holds liked and disliked pictures without pairs, which train as they are with the "
            "objective diffusion_kto or sft; where pairs are needed, name the pictures as pairs"
        )
    table = _read_collected(listing) or _read_table(listing)
    if table is not None:
        return table
    refuse_without_images(listing)
    readings = [read(listing) for read in _BY_NAME]
    chosen = next((reading for reading in readings if reading.candidates), None)
    if chosen is None:
        chosen = next((reading for reading in readings if any(d.fatal for d in reading.defects)), None)
    if chosen is None:
        shown = ", ".join(listing.images[:3])
        raise DatasetError(f"{listing.root}: cannot tell who won from names such as {shown}; known layouts: {_LAYOUTS}")
    return chosen


def _read_collected(listing: Listing) -> Reading | None:
    reading = read_collected(listing) if LOG_NAME in listing.tables else None
    if reading and not (reading.candidates or reading.defects or reading.ties):
        raise DatasetError(f"{listing.root / LOG_NAME}: holds no vote that says who won; judge some pairs of the set")
    return reading


def _read_table(listing: Listing) -> Reading | None:
    top = {name.lower(): name for name in reversed(listing.tables) if "/" not in name}
    parquet = [name for name in listing.tables if name.lower().endswith(".parquet") and name.count("/") <= 1]
    for name, rows in (("metadata.jsonl", rows_jsonl), ("metadata.csv", rows_csv)):
        if name in top:
            if not listing.images:
                raise DatasetError(f"{listing.root}: {top[name]} is there, but no PNG, JPEG or WebP picture")
            return _not_empty(listing, top[name], read_rows(listing, top[name], rows(listing.root / top[name])))
    return _not_empty(listing, parquet[0], read_parquet(listing, parquet)) if parquet else None


def _not_empty(listing: Listing, name: str, reading: Reading) -> Reading:
    if not (reading.candidates or reading.defects or reading.ties):
        raise DatasetError(f"{listing.root / name}: holds no rows; write one pair on each line")
    return reading


def _complete(
    reading: Reading, pictures: Pictures, captions: Captions, defects: list[Defect], allow_empty: bool
) -> Iterator[Judged]:
    """The candidates whose two pictures and prompt are sound; the others' defects are noted."""
    keys: set[str] = set()
    for candidate in reading.candidates:
        winner, loser = pictures.look(candidate.winner), pictures.look(candidate.loser)
        if winner is None or loser is None:
            continue
        if winner.identity == loser.identity:
            defects.append(same_picture(candidate))
            continue
        prompt = captions.prompt(candidate)
        if prompt is None:
            continue
        if not prompt and not allow_empty:
            defects.append(_no_caption(candidate))
            continue
        pair = PreferencePair(
            unique(candidate.key, keys),
            prompt,
            pictures.root / candidate.winner,
            pictures.root / candidate.loser,
            winner.size,
            loser.size,
        )
        warning = shape_warning(pair, candidate.where)
        if warning:
            defects.append(warning)
        yield Judged(pair, candidate.where, winner.identity, loser.identity)


def _no_caption(candidate: Candidate) -> Defect:
    message = "no caption file and no prompt in the picture's metadata; write the prompt into a .txt file of its name"
    return Defect("no_caption", candidate.where, message)
