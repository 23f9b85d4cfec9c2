"""A preference set at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from PIL import Image

from ..drawing.pair_sheets import pair_sheet, unpaired_sheet
from ..exceptions import DatasetError
from ..images.decode import load_rgb
from ..pairs.any_folder import Scan
from ..pairs.opinions import OpinionScan

SIDE = 320  # pixels; a sheet shows no picture larger

T = TypeVar("T")


def scan_sheet(scan: Scan, shown: int, *, title: str) -> Image.Image:
    """At most `shown` pairs, or liked and disliked pictures, evenly spread over the set.

    A picture that turns out damaged is left out, with its pair if it has one.

    Raises:
        DatasetError: none of them can be read.
    """
    if isinstance(scan, OpinionScan):
        opinions = _loaded([((it.picture,), (it.liked, it.prompt)) for it in _spread(scan.usable(), shown)], scan)
        text = _count(len(opinions), len(scan.usable()), "pictures")
        singles = [(pictures[0], liked, prompt) for pictures, (liked, prompt) in opinions]
        return unpaired_sheet(singles, title=title, subtitle=f"{text}; the liked ones have the mark", cell_size=SIDE)
    pairs = _loaded([((it.winner, it.loser), it.prompt) for it in _spread(scan.usable(), shown)], scan)
    text = _count(len(pairs), len(scan.usable()), "pairs")
    doubles = [(pictures[0], pictures[1], prompt) for pictures, prompt in pairs]
    return pair_sheet(doubles, title=title, subtitle=f"{text}; the better one has the mark", cell_size=SIDE)


def _spread(items: Sequence[T], shown: int) -> list[T]:
    step = max(1, len(items) / max(1, shown))
    return [items[int(n * step)] for n in range(min(shown, len(items)))]


def _loaded(picked: Sequence[tuple[tuple[Path, ...], T]], scan: Scan) -> list[tuple[list[Image.Image], T]]:
    """The pictures of each that can be read, small."""
    found, fault = [], None
    for paths, what in picked:
        try:
            pictures = [load_rgb(path) for path in paths]
        except DatasetError as error:
            fault = error
            continue
        for picture in pictures:
            picture.thumbnail((SIDE, SIDE))
        found.append((pictures, what))
    if not found:
        raise fault or DatasetError(f"{scan.folder}: no picture to show")
    return found


def _count(shown: int, count: int, what: str) -> str:
    return f"{count} {what}" if shown == count else f"{shown} of {count} {what}"
