"""Which files count as images, and how large they may be."""

from __future__ import annotations

from typing import Literal

FORMATS = ("PNG", "JPEG", "WEBP")
"""What Pillow may open; its other decoders, some of which start programs, stay out of reach."""

SUFFIXES = frozenset({".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi", ".webp"})

ImageKind = Literal["png", "jpg", "webp"]
IMAGE_KINDS: tuple[ImageKind, ...] = ("png", "jpg", "webp")
"""The suffix, without its dot, that a file of each format is stored with."""

MAX_PIXELS = 64_000_000
"""A larger image is a mistake or an attack; decoding it takes gigabytes."""

ORIENTATION = 0x0112
"""The EXIF tag: 1 (upright) to 8."""


def kind_of(data: bytes) -> ImageKind | None:
    """The kind of a file by its first 12 bytes; None if it is not PNG, JPEG or WebP."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "png"
    if data[:3] == b"\xff\xd8\xff":
        return "jpg"
    return "webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None
