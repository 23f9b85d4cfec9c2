"""What image files say of themselves, read once and remembered by name, size and time of writing.

The memory is a file of JSON lines, which several processes may append to. It is a cache: a damaged line, or a file
that cannot be written, costs only time.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from .. import files
from ..exceptions import DspoError
from .comfy_recipe import Recipe
from .image_files import ImageFile
from .image_metadata import ImageMetadata, image_metadata

log = logging.getLogger("dspo")

INDEX_NAME = "images-1.jsonl"
"""The number changes with what is read from images, so that an older memory is not believed."""

_MOST = 400_000  # entries; the oldest go first
_WASTE = 2_000  # lines about files that have changed since, before the file is written anew

_Stamp = tuple[int, int]


class _Entry(NamedTuple):
    """`pixels`: the hash of the image's pixels, once somebody needed it."""

    stamp: _Stamp
    found: ImageMetadata | None
    pixels: str | None = None


class ImageIndex:
    """Any number of threads may ask.

    Args:
        folder: of the memory; made when something is first saved.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / INDEX_NAME
        self._known: dict[str, _Entry] | None = None
        self._new: list[str] = []
        self._lines = 0
        self._lock = threading.Lock()

    def known(self, key: str, file: ImageFile) -> tuple[ImageMetadata | None] | None:
        """(what was read,) of the file as it is now, where None is no usable image; None if it was not read yet."""
        entry = self._entry(key, file)
        return None if entry is None else (entry.found,)

    def pixels(self, key: str, file: ImageFile) -> str | None:
        """The hash that was noted for the file as it is now."""
        entry = self._entry(key, file)
        return None if entry is None else entry.pixels

    def read(self, key: str, file: ImageFile) -> ImageMetadata | None:
        """Read the file and remember what it says; `save` writes it down."""
        found = image_metadata(file.path)
        self._note(key, _Entry((file.size, file.time), found))
        return found

    def note_pixels(self, key: str, file: ImageFile, pixels: str) -> None:
        """Remember the hash of an image's pixels, which takes long to find, of a file that was read before."""
        entry = self._entry(key, file)
        if entry is not None:
            self._note(key, entry._replace(pixels=pixels))

    def _entry(self, key: str, file: ImageFile) -> _Entry | None:
        with self._lock:
            found = self._loaded().get(key)
        return found if found is not None and found.stamp == (file.size, file.time) else None

    def _note(self, key: str, entry: _Entry) -> None:
        with self._lock:
            self._loaded()[key] = entry
            self._new.append(_line(key, entry))

    def save(self) -> None:
        """Append what was read since; whatever goes wrong is only logged."""
        with self._lock:
            new, self._new = self._new, []
            if not new:
                return
            try:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                with self._file.open("ab") as file:
                    file.write("".join(new).encode("utf-8", "replace"))
                self._lines += len(new)
                if self._lines > len(self._loaded()) + _WASTE:
                    self._write_anew()
            except (OSError, DspoError) as error:
                log.warning("%s: cannot be written, and images are read again next time (%s)", self._file, error)

    def _loaded(self) -> dict[str, _Entry]:
        if self._known is None:
            self._known = {}
            try:
                lines = self._file.read_bytes().split(b"\n")
            except OSError:
                lines = []
            self._take(lines)
        return self._known

    def _take(self, lines: Iterable[bytes]) -> None:
        assert self._known is not None
        for line in filter(None, lines):
            self._lines += 1
            try:
                key, entry = _parsed(json.loads(line))
            except (ValueError, TypeError, KeyError, RecursionError):
                continue
            self._known.pop(key, None)  # so that the order is that of the last line
            self._known[key] = entry
        for key in list(self._known)[: max(0, len(self._known) - _MOST)]:
            del self._known[key]

    def _write_anew(self) -> None:
        known = self._loaded()
        files.write_text(self._file, "".join(_line(key, entry) for key, entry in known.items()))
        self._lines = len(known)


def _line(key: str, entry: _Entry) -> str:
    row: dict[str, Any] = {"key": key, "stamp": entry.stamp}
    if entry.found is not None:
        recipe = entry.found.recipe
        row |= {
            "size": entry.found.size,
            "prompt": recipe.prompt,
            "seed": recipe.seed,
            "settings": dict(recipe.settings),
        }
    if entry.pixels is not None:
        row["pixels"] = entry.pixels
    return "\n" + json.dumps(row) + "\n"  # an empty line first: the one before may have been cut short


def _parsed(row: Any) -> tuple[str, _Entry]:
    key, (size, time), pixels = row["key"], row["stamp"], row.get("pixels")
    if not isinstance(key, str) or not isinstance(pixels, (str, type(None))):
        raise TypeError
    if "size" not in row:
        return key, _Entry((size, time), None, pixels)
    width, height = row["size"]
    recipe = Recipe(str(row["prompt"]), row["seed"], dict(row["settings"]))
    return key, _Entry((size, time), ImageMetadata(recipe, (int(width), int(height))), pixels)
