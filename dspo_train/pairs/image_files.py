"""Every image below a folder, found quickly."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from ..exceptions import ConfigError
from ..files.names import parts_of
from ..images.formats import SUFFIXES

MAX_FILES = 200_000
"""More files below one folder are a mistake, such as a whole disk."""

_DEPTH = 12


class ImageFile(NamedTuple):
    """An image below a root: its name relative to it with `/`, size in bytes, time of writing in nanoseconds."""

    name: str
    path: str
    size: int
    time: int


def images_below(root: Path, enter: Callable[[str], bool] = lambda name: True) -> list[ImageFile]:
    """The images below a folder, newest first; none where it is missing or cannot be read.

    Links are not followed, hidden folders not entered, and names that `files.names` refuses left out.

    Args:
        enter: is given the name of a folder relative to `root`; False leaves it out.
    """
    found: list[ImageFile] = []
    for each in _below(str(root), "", _DEPTH, enter):
        found.append(each)
        if len(found) >= MAX_FILES:
            break
    return sorted(found, key=lambda it: (-it.time, it.name))


def _below(folder: str, prefix: str, depth: int, enter: Callable[[str], bool]) -> Iterator[ImageFile]:
    inner: list[tuple[str, str]] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = prefix + entry.name
                if entry.name.startswith(".") or not _plain(entry.name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    inner.append((entry.path, name))
                elif _is_image(entry):
                    status = entry.stat(follow_symlinks=False)
                    yield ImageFile(name, entry.path, status.st_size, status.st_mtime_ns)
    except OSError:  # gone in the meantime, or not ours to read
        return
    for path, name in inner if depth > 1 else ():
        if enter(name):
            yield from _below(path, name + "/", depth - 1, enter)


def _is_image(entry: os.DirEntry[str]) -> bool:
    return os.path.splitext(entry.name)[1].lower() in SUFFIXES and entry.is_file(follow_symlinks=False)


def _plain(name: str) -> bool:
    try:
        return len(parts_of(name)) == 1
    except ConfigError:
        return False
