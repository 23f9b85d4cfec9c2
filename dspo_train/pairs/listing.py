"""The files of a dataset folder, listed once and in a fixed order."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ..exceptions import DatasetError
from ..images.formats import SUFFIXES
from .types import Defect

# Formats that are not read: they need further libraries, hold several images, or are a camera's or a program's own.
OTHER_IMAGE_SUFFIXES = frozenset({
    ".gif", ".bmp", ".dib", ".tif", ".tiff", ".avif", ".avifs", ".heic", ".heif", ".hif", ".jxl", ".jp2",
    ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".jpm", ".mpo", ".tga", ".icb", ".vda", ".vst", ".psd", ".psb",
    ".xcf", ".kra", ".ora", ".clip", ".svg", ".ico", ".icns", ".dds", ".exr", ".hdr", ".qoi", ".pcx", ".ppm",
    ".pgm", ".pbm", ".pnm", ".pfm", ".sgi", ".rgb", ".rgba", ".bw", ".dng", ".arw", ".cr2", ".cr3", ".nef",
    ".orf", ".raf", ".rw2", ".raw",
})  # fmt: skip
CAPTION_SUFFIXES = (".txt", ".caption")  # the first one found counts
TABLE_SUFFIXES = frozenset({".jsonl", ".csv", ".parquet"})
CACHE_FOLDER = ".dspo_cache"
EXTRACTED = f"{CACHE_FOLDER}/images/"
_SKIPPED = frozenset({"thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "__pycache__"})


@dataclass
class Listing:
    """Relative paths with `/`, spelled as on disk, sorted by their NFC form; hidden files left out.

    Attributes:
        root: the folder as the caller named it.
        captions: NFC path without suffix -> paths on disk, in the order of `CAPTION_SUFFIXES`.
        others: what is neither an image, a caption nor a table.
    """

    root: Path
    images: list[str] = field(default_factory=list)
    captions: dict[str, list[str]] = field(default_factory=dict)
    tables: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    defects: list[Defect] = field(default_factory=list)

    @cached_property
    def image_of(self) -> dict[str, str]:
        """NFC path -> path on disk. macOS stores NFD names, so a table written elsewhere still finds them."""
        return {nfc(path): path for path in self.images}

    @cached_property
    def image_of_folded(self) -> dict[str, list[str]]:
        """Case-folded NFC path -> paths on disk."""
        folded: dict[str, list[str]] = {}
        for path in self.images:
            folded.setdefault(nfc(path).casefold(), []).append(path)
        return folded

    def captions_at(self, *stems: str) -> tuple[str, ...]:
        """The caption files that exist among the given NFC paths without extension, in that order."""
        return tuple(dict.fromkeys(path for stem in stems for path in self.captions.get(stem, ())))


def nfc(text: str) -> str:
    """The composed form: `é` in one code point however the file system stored it."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def split_suffix(path: str) -> tuple[str, str]:
    """`a/b.c.PNG` -> (`a/b.c`, `.png`).

    >>> split_suffix("a.b/c")
    ('a.b/c', '')
    """
    stem, dot, suffix = path.rpartition(".")
    if not dot or "/" in suffix or not stem or stem.endswith("/"):
        return path, ""
    return stem, f".{suffix.lower()}"


def stem_of(path: str) -> str:
    """The path without suffix, in NFC form: what an image and its caption have in common."""
    return nfc(split_suffix(path)[0])


def list_folder(folder: Path) -> Listing:
    """List a dataset folder and its sub-folders; follow no link that leaves it.

    Raises:
        DatasetError: the folder is missing, a file, unreadable or empty.
    """
    if not folder.exists():
        raise DatasetError(f"{folder}: no such folder; check the spelling of the dataset path")
    if not folder.is_dir():
        raise DatasetError(f"{folder}: is a file; name the folder that holds the images")
    listing = Listing(folder)
    for relative in _walk(listing):
        _sort_in(listing, relative)
    if not (listing.images or listing.captions or listing.tables or listing.others or listing.defects):
        raise DatasetError(f"{folder}: the folder is empty; put images into it")
    return listing


def refuse_without_images(listing: Listing) -> None:
    """Refuse a folder that has no image that can be read.

    Raises:
        DatasetError: it has none.
    """
    if not listing.images:
        blocked = "".join(f"\n  {defect}" for defect in listing.defects[:10])
        raise DatasetError(f"{listing.root}: holds no PNG, JPEG or WebP image{blocked}")


def _sort_in(listing: Listing, relative: str) -> None:
    stem, suffix = split_suffix(relative)
    if suffix in SUFFIXES:
        listing.images.append(relative)
    elif suffix in CAPTION_SUFFIXES:
        found = listing.captions.setdefault(nfc(stem), [])
        found.append(relative)
        found.sort(key=lambda path: CAPTION_SUFFIXES.index(split_suffix(path)[1]))
    elif suffix in TABLE_SUFFIXES:
        listing.tables.append(relative)
    elif suffix in OTHER_IMAGE_SUFFIXES:
        message = f"{suffix} images are not read; save it as PNG, JPEG or WebP"
        listing.defects.append(Defect("unsupported_format", relative, message, fatal=False))
    else:
        listing.others.append(relative)


def _walk(listing: Listing) -> Iterator[str]:
    real_root = os.path.realpath(listing.root)
    visited = {real_root}
    stack = [""]
    while stack:
        prefix = stack.pop()
        folders: list[str] = []
        for entry in _entries(listing, prefix):
            relative = prefix + entry.name
            if not _admitted(listing, entry, relative, real_root):
                continue
            if not _is_folder(entry):
                yield relative
                continue
            real = os.path.realpath(entry.path)
            if real not in visited:
                visited.add(real)
                folders.append(relative + "/")
        stack.extend(reversed(folders))


def _entries(listing: Listing, prefix: str) -> list[os.DirEntry[str]]:
    path = listing.root / prefix if prefix else listing.root
    try:
        with os.scandir(path) as entries:
            found = [e for e in entries if not (e.name.startswith(".") or e.name.casefold() in _SKIPPED)]
    except OSError as error:
        if not prefix:
            raise DatasetError(f"{path}: the folder cannot be read ({error.strerror or error})") from error
        message = f"the folder cannot be read ({error.strerror or error}); change its permissions"
        listing.defects.append(Defect("unreadable_folder", prefix, message))
        return []
    return sorted(found, key=lambda entry: (nfc(entry.name), entry.name))


def _admitted(listing: Listing, entry: os.DirEntry[str], relative: str, real_root: str) -> bool:
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        message = "the file name is not valid Unicode; rename it"
        listing.defects.append(Defect("bad_name", ascii(relative)[1:-1], message))
        return False
    # Windows junctions are folders that lead elsewhere without being symbolic links.
    if (entry.is_symlink() or _is_folder(entry)) and not _inside(os.path.realpath(entry.path), real_root):
        message = "is a link out of the dataset folder; copy the file or folder here instead"
        listing.defects.append(Defect("outside_folder", relative, message))
        return False
    return True


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _inside(real: str, real_root: str) -> bool:
    try:
        return os.path.commonpath([real, real_root]) == real_root
    except ValueError:  # different drives on Windows
        return False
