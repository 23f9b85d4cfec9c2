"""A preference set at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from PIL import Image

from ..drawing.pair_sheets import pair_sheet, unpaired_sheet
from ..exceptions import DatasetError
from ..images.decode import load_rgb
from ..pairs import PreferencePair, RatedImage, Scan

_SIDE = 320  # pixels; a sheet shows no image larger

_Row = TypeVar("_Row", PreferencePair, RatedImage)


def scan_sheet(scan: Scan, shown: int, *, title: str) -> Image.Image:
    """At most `shown` pairs, or liked and disliked images, evenly spread over the set.

    A damaged image is left out, with its pair if it has one.

    Raises:
        DatasetError: nothing in the set is usable, or none of the selected images can be read.
    """
    scan.usable()
    if scan.unpaired:
        rated = _loaded(_spread(scan.liked + scan.disliked, shown))
        singles = [(images[0], row.liked, row.prompt) for row, images in rated]
        return unpaired_sheet(singles, title=title, subtitle=_subtitle(len(rated), scan), cell_size=_SIDE)
    pairs = _loaded(_spread(scan.pairs, shown))
    doubles = [(images[0], images[1], row.prompt) for row, images in pairs]
    return pair_sheet(doubles, title=title, subtitle=_subtitle(len(pairs), scan), cell_size=_SIDE)


def _subtitle(shown: int, scan: Scan) -> str:
    count = f"{len(scan.rows)} {scan.noun}"
    which = "the liked ones are marked" if scan.unpaired else "the better one of each is marked"
    return f"{count if shown == len(scan.rows) else f'{shown} of {count}'}; {which}"


def _spread(rows: Sequence[_Row], shown: int) -> list[_Row]:
    step = max(1, len(rows) / max(1, shown))
    return [rows[int(n * step)] for n in range(min(shown, len(rows)))]


def _loaded(rows: Sequence[_Row]) -> list[tuple[_Row, list[Image.Image]]]:
    """The rows whose images can all be read, with those images, scaled down."""
    found, fault = [], None
    for row in rows:
        try:
            images = [load_rgb(path) for path in row.images]
        except DatasetError as error:
            fault = error
            continue
        for image in images:
            image.thumbnail((_SIDE, _SIDE))
        found.append((row, images))
    if not found:
        raise fault or DatasetError("no image to show; ask for at least one")
    return found
