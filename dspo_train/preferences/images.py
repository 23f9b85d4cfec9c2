"""The pictures of a set: each stored once, under the hash of what it shows."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

from PIL import Image

from .. import files
from ..exceptions import DatasetError, DspoError
from .entries import digits

SUFFIXES = ("png", "jpg", "webp")

_FORMATS = ("PNG", "JPEG", "WEBP")
_MOST_PIXELS = 64_000_000
_ORIENTATION = 0x0112  # EXIF


def picture_name(data: bytes) -> str:
    """`images/<16 hex digits of SHA-256>.<png|jpg|webp>`, the type by the file's first bytes.

    The hash is of size and pixels, so that another workflow written into the file makes no other picture. Sets made
    earlier have the hash of the whole file instead; to a reader either is just a name.

    Raises:
        DatasetError: the bytes are no PNG, JPEG or WebP file.
    """
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        suffix = "png"
    elif data[:3] == b"\xff\xd8\xff":
        suffix = "jpg"
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        suffix = "webp"
    else:
        raise DatasetError(f"a picture must be a PNG, JPEG or WebP file, but it starts with {bytes(data[:12])!r}")
    return f"images/{hashlib.sha256(_content(data)).hexdigest()[:16]}.{suffix}"


def store_picture(folder: Path, data: bytes) -> str:
    """Write a picture below the folder of a set, unless its pixels are there, and return its name.

    The file that came first stays, whatever its type.

    Raises:
        DatasetError: the bytes are no PNG, JPEG or WebP file.
        RunError: the disk is full, or the folder cannot be written.
    """
    name = picture_name(data)
    names = [name, *(f"images/{digits(name)}.{suffix}" for suffix in SUFFIXES)]
    stored = next((each for each in names if _there(folder, each, data)), None)
    if stored is not None:
        return stored
    try:
        files.write_bytes(folder / name, data)
    except DspoError:
        if not _there(folder, name, data):  # on Windows, a file another process has just written cannot be replaced
            raise
    return name


def _there(folder: Path, name: str, data: bytes) -> bool:
    """Whether the file is there and whole."""
    path = folder / name
    try:
        return path.stat().st_size == len(data) or digits(picture_name(path.read_bytes())) == digits(name)
    except (OSError, DatasetError):
        return False


def _content(data: bytes) -> bytes:
    """What is seen; the whole file where it is damaged, huge or moves, which is for its reader to judge."""
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.width * image.height > _MOST_PIXELS or getattr(image, "n_frames", 1) > 1:
                return data
            image.load()
            turn, clear = image.getexif().get(_ORIENTATION, 1), image.info.get("transparency")
            pixels = image.convert("RGBA") if image.mode in ("P", "PA") else image  # else kept: 16 bits stay 16 bits
            return f"{pixels.size} {pixels.mode} {turn} {clear!r}".encode() + pixels.tobytes()
    except Exception:  # decoders raise OSError, ValueError, SyntaxError, struct.error, zlib.error, ...
        return data
