"""Decode what is about to be trained on, so that damage is found before a model is loaded, and all of it at once."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from ..exceptions import DatasetError
from ..images.decode import load_rgb, strict_decoding
from .listing import EXTRACTED
from .types import Defect, PreferencePair, RatedImage, Scan

_THREADS = 4  # Pillow decodes outside the interpreter's lock; an image of 64 megapixels takes 190 MB in each


def decodable(scan: Scan, on_progress: Callable[[int, int], None] = lambda done, total: None) -> Scan:
    """The scan without the rows of which an image cannot be decoded; each such image becomes a defect.

    Args:
        on_progress: called with (images decoded, images).
    """
    paths = list(dict.fromkeys(path for row in scan.rows for path in row.images))
    damaged: dict[Path, Defect] = {}
    with strict_decoding():  # around all threads, since it is a setting of the whole process
        pool = ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1))
        try:
            for done, (path, problem) in enumerate(zip(paths, pool.map(_problem, paths), strict=True), 1):
                if problem:
                    damaged[path] = Defect("unreadable_image", _place(scan, path), problem)
                on_progress(done, len(paths))
        finally:  # on_progress may cancel
            pool.shutdown(cancel_futures=True)
    if not damaged:
        return scan

    def whole(row: PreferencePair | RatedImage) -> bool:
        return damaged.keys().isdisjoint(row.images)

    return replace(
        scan,
        pairs=tuple(filter(whole, scan.pairs)),
        images=tuple(filter(whole, scan.images)),
        defects=(*damaged.values(), *scan.defects),
    )


def _place(scan: Scan, path: Path) -> str:
    """The image's path in the folder, or the place of its row where a table embeds it."""
    relative = path.relative_to(scan.folder).as_posix()
    if not relative.startswith(EXTRACTED):
        return relative
    return next(row.place or row.key for row in scan.rows if path in row.images)


def _problem(path: Path) -> str:
    """Why an image cannot be decoded; empty if it can."""
    try:
        load_rgb(path)
    except DatasetError as error:
        return str(error).removeprefix(f"{path}: ")
    return ""
