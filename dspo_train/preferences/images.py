"""The images of a set: each stored once, under the hash of its pixels."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

from PIL import Image

from .. import files
from ..exceptions import DatasetError, DspoError
from ..images.formats import FORMATS, IMAGE_KINDS, MAX_PIXELS, ORIENTATION, kind_of
from .entries import digits


def image_name(data: bytes) -> str:
    """`images/<16 hex digits of SHA-256>.<png|jpg|webp>`, the type by the file's first bytes.

    The hash covers size and pixels, not the workflow written into the file. Older sets have the hash of the whole
    file instead; to a reader either is just a name.

    Raises:
        DatasetError: the bytes are no PNG, JPEG or WebP file.
    """
    kind = kind_of(data)
    if kind is None:
        raise DatasetError(f"an image must be a PNG, JPEG or WebP file, but it starts with {bytes(data[:12])!r}")
    return f"images/{_digits(_content(data))}.{kind}"


def pixel_digits(image: Image.Image) -> str:
    """The hash in the name under which an RGB image is stored, whatever the type of its file."""
    return _digits(_pixels(image))


def store_image(folder: Path, data: bytes) -> str:
    """Write an image below the folder of a set, unless its pixels are stored already, and return its name.

    The file that came first stays, whatever its type.

    Raises:
        DatasetError: the bytes are no PNG, JPEG or WebP file.
        RunError: the disk is full, or the folder cannot be written.
    """
    name = image_name(data)
    names = [name, *(f"images/{digits(name)}.{kind}" for kind in IMAGE_KINDS)]
    stored = next((each for each in names if _there(folder, each, data)), None)
    if stored is not None:
        return stored
    try:
        files.write_bytes(folder / name, data)
    except DspoError:
        if not _there(folder, name, data):  # on Windows, a file another process has just written cannot be replaced
            raise
    return name


def _digits(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _there(folder: Path, name: str, data: bytes) -> bool:
    """Whether the file is there and whole."""
    path = folder / name
    try:
        return path.stat().st_size == len(data) or digits(image_name(path.read_bytes())) == digits(name)
    except (OSError, DatasetError):
        return False


def _content(data: bytes) -> bytes:
    """Size and pixels; the whole file where it is damaged, huge or animated, which is for its reader to judge."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS or getattr(image, "n_frames", 1) > 1:
                return data
            image.load()
            turn, clear = image.getexif().get(ORIENTATION, 1), image.info.get("transparency")
            pixels = image.convert("RGBA") if image.mode in ("P", "PA") else image  # else kept: 16 bits stay 16 bits
            return _pixels(pixels, turn, clear)
    except Exception:  # decoders raise OSError, ValueError, SyntaxError, struct.error, zlib.error, ...
        return data


def _pixels(image: Image.Image, turn: int = 1, clear: object = None) -> bytes:
    return f"{image.size} {image.mode} {turn} {clear!r}".encode() + image.tobytes()
