"""The files of a dataset folder that a scan does not use, each with the reason."""

from __future__ import annotations

from collections.abc import Iterator

from .listing import Listing, stem_of
from .readings import LayoutReading
from .types import Defect, Layout

# What other trainers and taggers write beside an image.
_OTHER_CAPTIONS = frozenset({
    ".json", ".tags", ".cap", ".prompt", ".prompts", ".wd14", ".md", ".yaml", ".yml", ".xml", ".xmp", ".text",
})  # fmt: skip
_UNUSED_IMAGE: dict[Layout, str] = {
    "collected": "is not an image of the set; ignored",
    "metadata": "is not named in the table; ignored",
    "table": "is not named in the table; ignored",
    "folders": "is in neither the liked nor the disliked folder; ignored",
}


def leftovers(listing: Listing, reading: LayoutReading) -> list[Defect]:
    """A warning for each file that is neither part of what the layout names nor of a defect that it noted."""
    return [Defect("ignored_files", path, reason, fatal=False) for path, reason in _unused(listing, reading)]


def _unused(listing: Listing, reading: LayoutReading) -> Iterator[tuple[str, str]]:
    used, layout = reading.used | _files_of(reading), reading.layout
    reason = _UNUSED_IMAGE.get(layout, f"belongs to no pair in the layout '{layout}'; ignored")
    yield from ((path, reason) for path in listing.images if path not in used)
    table = f"this table is not read in the layout '{layout}'; ignored"
    yield from ((path, table) for path in listing.tables if path not in used)
    stems = reading.stems | {stem_of(path) for path in listing.images}
    for stem, paths in listing.captions.items():
        if stem not in stems:  # beside an image that is itself listed, it says nothing new
            yield from ((path, "a caption of no image that is read; ignored") for path in paths if path not in used)
    for path in listing.others:
        beside = stem_of(path) in stems and path.lower().endswith(tuple(_OTHER_CAPTIONS))
        captions = listing.captions.get(stem_of(path))
        reason = f"is not read, but {captions[0]} is; ignored" if captions else _NOT_A_CAPTION
        yield path, reason if beside else "neither an image, a caption nor a table; ignored"


_NOT_A_CAPTION = "is not read; write the caption into a .txt or .caption file of this name"


def _files_of(reading: LayoutReading) -> set[str]:
    files: set[str] = set()
    for candidate in (*reading.pairs, *reading.images):
        files.update(candidate.images, candidate.captions)
    return files | {pair.source for pair in reading.pairs}
