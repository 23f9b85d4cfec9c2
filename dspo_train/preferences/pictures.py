"""The pictures of a set: each stored once, under the hash of its bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path

from .. import files
from ..exceptions import DatasetError, DspoError


def picture_name(data: bytes) -> str:
    """`images/<16 hex digits of SHA-256>.<png|jpg|webp>`, the type by the file's first bytes.

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
    return f"images/{hashlib.sha256(data).hexdigest()[:16]}.{suffix}"


def store_picture(folder: Path, data: bytes) -> str:
    """Write a picture below the folder of a set, unless it is there, and return its name.

    Raises:
        DatasetError: the bytes are no PNG, JPEG or WebP file.
        RunError: the disk is full, or the folder cannot be written.
    """
    name = picture_name(data)
    path = folder / name
    if not _there(path, data):
        try:
            files.write_bytes(path, data)
        except DspoError:
            if not _there(path, data):  # on Windows, a file that another process has just written cannot be replaced
                raise
    return name


def _there(path: Path, data: bytes) -> bool:
    try:
        return path.stat().st_size == len(data)
    except OSError:
        return False
