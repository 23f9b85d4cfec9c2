"""Which folders below a root look like preference sets, and a quick fingerprint of one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from ..exceptions import ConfigError
from ..files.names import parts_of
from ..images.formats import SUFFIXES
from .folders import SIDES as PAIR_SIDES
from .listing import CACHE_FOLDER, TABLE_SUFFIXES
from .types import PreferencePair, RatedImage, Scan
from .unpaired_layouts import RATED_SIDES

DEPTH = 3
ENTRIES = 2000  # of one folder that are looked at; a set shows itself sooner
_SIDES = frozenset({"images", *(word for family in PAIR_SIDES for word in family), *RATED_SIDES})


def find_sets(root: Path, depth: int = DEPTH) -> list[str]:
    """Names, relative to `root` with `/`, of the folders that hold images, a table, or the two sides of a set.

    Liked and disliked images count as one set: each side by itself could pass for a ranking.

    Links are not followed and hidden folders are not entered; names that `files.names` refuses are left out.
    """
    return sorted(_below(root, "", depth), key=str.casefold)


def _below(folder: Path, prefix: str, depth: int) -> Iterator[str]:
    for entry in _folders(folder):
        name = prefix + entry.name
        if not _plain(name):
            continue
        if _looks_like_a_set(Path(entry.path)):
            yield name
        elif depth > 1:
            yield from _below(Path(entry.path), name + "/", depth - 1)


def _folders(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [e for e in entries if not e.name.startswith(".") and e.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _looks_like_a_set(folder: Path) -> bool:
    images, sides = 0, 0
    try:
        with os.scandir(folder) as entries:
            for entry in islice(entries, ENTRIES):
                suffix = os.path.splitext(entry.name)[1].lower()
                images += suffix in SUFFIXES
                sides += entry.name.lower() in _SIDES and entry.is_dir(follow_symlinks=False)
                if suffix in TABLE_SUFFIXES or images >= 2 or sides >= 2:
                    return True
    except OSError:
        pass
    return False


def _plain(name: str) -> bool:
    try:
        parts_of(name)
    except ConfigError:
        return False
    return True


def pairs_stamp(scan: Scan) -> str:
    """Changes when what would be trained does: names, ratings, prompts, or the sizes and times of image files.

    Source images are not trained and do not count.
    """
    digest = hashlib.sha256()
    for name, row in _named(scan):
        times = [(path.stat().st_size, path.stat().st_mtime_ns) for path in row.images]
        digest.update(f"{name}\0{row.prompt}\0{times}\n".encode(errors="surrogatepass"))
    return digest.hexdigest()


def _named(scan: Scan) -> Iterator[tuple[str, PreferencePair | RatedImage]]:
    """Each row, and its unique name, which says of an image whether it was liked."""
    yield from ((pair.key, pair) for pair in scan.pairs)
    yield from ((f"{image.key}\0{image.liked}", image) for image in (*scan.liked, *scan.disliked))


def stamp(folder: Path) -> str:
    """Changes when a file of the set is added, removed or written to: a hash of names, sizes and times."""
    digest = hashlib.sha256()
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != CACHE_FOLDER and not name.startswith("."))
        for name in sorted(names):
            if name.startswith("."):
                continue
            try:
                status = os.stat(os.path.join(parent, name))
            except OSError:
                continue
            relative = os.path.relpath(os.path.join(parent, name), folder).replace(os.sep, "/")
            digest.update(f"{relative}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogatepass"))
    return digest.hexdigest()
