"""The images of a set, and thumbnails for lists."""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from ...dspo_train.exceptions import DatasetError
from ...dspo_train.files.names import inside
from ...dspo_train.pairs.glimpse import glimpse
from ...dspo_train.preferences.recognise import is_collected
from .. import collecting
from ..collecting import Place
from .refusals import RefusedError
from .serve import ImageAnswer

_Kind = Literal["png", "jpeg", "webp"]
_KINDS: dict[str, _Kind] = {".png": "png", ".jpg": "jpeg", ".webp": "webp"}
_CACHED = 2500  # reduced images; about 30 KB each at 512 pixels


def image(place: Place, set: str, image: str, size: int | None) -> ImageAnswer:
    """An image as stored, or as WebP of at most `size` pixels per side. Its name is the hash of its content."""
    folder = collecting.folder_of(place, set)
    if not is_collected(folder):
        raise RefusedError(409, "This set was not collected here; import it into a collected set.")
    path = inside(folder, image, "the image's name")
    if size is not None:
        return ImageAnswer(reduced(path, size), "webp", keep=True)
    return ImageAnswer(read(path), _KINDS[path.suffix], keep=True)


def look(set: str) -> dict[str, Any]:
    """What is in a folder that was not collected here."""
    seen = glimpse(collecting.folder_of("sets", set))
    return {"pairs": seen.pairs, "rated": seen.rated, "images": seen.images, "thumbnails": len(seen.shown)}


def thumbnail(set: str, index: int, size: int) -> ImageAnswer:
    """One of the images of a folder that stand for it."""
    shown = glimpse(collecting.folder_of("sets", set)).shown
    if index >= len(shown):
        raise RefusedError(404, "There is no such image.")
    return ImageAnswer(reduced(shown[index], size, shown[index].stat().st_mtime_ns), "webp")


def read(path: Path) -> bytes:
    """
    Raises:
        DatasetError: there is no such file.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror or error}); put the file back") from error


@lru_cache(maxsize=_CACHED)
def reduced(path: Path, size: int, version: object = None) -> bytes:
    """An image as WebP of at most `size` pixels per side.

    Args:
        version: of a file whose content may change: such as the time it was written.
    """
    from ...dspo_train.images.decode import load_rgb

    image = load_rgb(path)
    image.thumbnail((size, size))
    buffer = io.BytesIO()
    image.save(buffer, format="WEBP", quality=85, method=2)
    return buffer.getvalue()
