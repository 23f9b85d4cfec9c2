"""A preference set at a glance."""

from __future__ import annotations

from PIL import Image

from .exceptions import DatasetError
from .grids import pair_sheet
from .images import load_rgb
from .pairs import PairScan

SIDE = 320  # pixels; a sheet shows no picture larger


def scan_sheet(scan: PairScan, shown: int, *, title: str) -> Image.Image:
    """At most `shown` pairs, evenly spread over the set; a picture that turns out damaged leaves its pair out.

    Raises:
        DatasetError: none of them can be read.
    """
    count = len(scan.usable())
    step = max(1, count / max(1, shown))
    picked = [scan.pairs[int(n * step)] for n in range(min(shown, count))]
    pairs, fault = [], None
    for pair in picked:
        try:
            pictures = [load_rgb(path) for path in (pair.winner, pair.loser)]
        except DatasetError as error:
            fault = error
            continue
        for picture in pictures:
            picture.thumbnail((SIDE, SIDE))
        pairs.append((*pictures, pair.prompt))
    if not pairs:
        raise fault or DatasetError(f"{scan.folder}: no picture to show")
    text = f"{count} pairs" if len(pairs) == count else f"{len(pairs)} of {count} pairs"
    return pair_sheet(pairs, title=title, subtitle=f"{text}; the better one has the mark", cell_size=SIDE)
