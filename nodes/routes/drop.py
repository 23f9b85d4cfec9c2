"""Image files dropped onto the panel: received into the tray whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ...dspo_train import files
from ...dspo_train.exceptions import ConfigError
from ...dspo_train.files.names import file_name
from ...dspo_train.images.formats import kind_of
from ...dspo_train.images.integrity import ImageError, inspect_image
from ...dspo_train.pairs.image_metadata import image_metadata
from .. import gather_sources
from .refusals import RefusedError

LARGEST_FILE = 64 * 1024 * 1024  # bytes
_TRAY = 8 * 1024**3  # bytes that may wait; collected files leave the tray
_LONGEST = 60  # characters kept of a file's own name
_NO_IMAGE = "Only whole images in PNG, JPEG or WebP of at most 64 megapixels can be dropped here."


def take(file: Path, name: str) -> dict[str, Any]:
    """Move a received file into the tray, under its own name and a hash of its content.

    Args:
        file: a temporary file in the tray.
        name: as on the sender's disk.
    """
    kind = _kind(file)
    content = files.sha256_of(file)[:16]
    waiting = list(gather_sources.tray().glob(f"*-{content}.{kind}"))
    if waiting:
        return {"image": waiting[0].name, "status": "already"}
    target = file.with_name(f"{_stem(name)}-{content}.{kind}")
    try:
        os.chmod(file, 0o644)  # a temporary file is private
        os.replace(file, target)
    except OSError as error:
        raise files.cannot_write(target, error) from error
    return {"image": target.name, "status": "dropped"}


def tray() -> Path:
    """The folder that files are received in.

    Raises:
        RefusedError: 413, too much waits there.
    """
    folder = gather_sources.tray()
    if sum(it.size for it in gather_sources.files_of("dropped").files) > _TRAY:
        raise RefusedError(413, "8 GB of dropped images are waiting; collect them, or delete output/dspo/dropped.")
    return folder


def _kind(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            kind = kind_of(opened.read(12))
        inspect_image(file)
    except (OSError, ImageError):
        kind = None
    if kind is None or image_metadata(file) is None:
        raise RefusedError(415, _NO_IMAGE)
    return kind


def _stem(name: str) -> str:
    try:
        stem = file_name(Path(name).stem)[:_LONGEST].rstrip(". ")
    except ConfigError:
        return "image"
    return "image" if stem.startswith(".") or not stem else stem
