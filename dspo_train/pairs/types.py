"""What a dataset scan finds: pairs or rated images, and their defects in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..exceptions import DatasetError
from ..files.words import shortened

Layout = Literal["collected", "metadata", "subfolders", "suffixes", "ranked", "table", "folders", "opinions"]
"""The last three are unpaired: a table or two folders of liked and disliked images, or a collected set's opinions."""

UNPAIRED: frozenset[Layout] = frozenset(("table", "folders", "opinions"))

DefectKind = Literal[
    "partner_missing",
    "missing_file",
    "ambiguous_name",
    "bad_name",
    "unreadable_image",
    "doubtful_image",
    "unsupported_format",
    "bad_size",
    "bad_source",
    "aspect_mismatch",
    "no_caption",
    "bad_caption",
    "multiline_caption",
    "same_image",
    "duplicate_pair",
    "contradicting_labels",
    "bad_metadata",
    "unlabelled",
    "outside_folder",
    "unreadable_folder",
    "ranked_set",
    "ignored_files",
]


@dataclass(frozen=True, slots=True)
class Defect:
    """One thing to fix in a dataset.

    Attributes:
        where: a path relative to the dataset folder, `file:line` or `file:row N`.
        message: what is wrong and what to do about it.
        fatal: True where something was left out because of it, False for a warning.
    """

    kind: DefectKind
    where: str
    message: str
    fatal: bool = True

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """Two images of one prompt, and which of them was preferred.

    Attributes:
        key: stable, unique name within the dataset, such as `cat`, `sub/cat#0>2` or `a.png>b.png`.
        winner_size, loser_size: (width, height) in pixels, after the EXIF orientation was applied.
        source: the image that both were made from (img2img), where the dataset names one.
        place: where the dataset has it, as in `Defect.where`.
        doubt: the share of its label that is believed wrong, 0 to one half.
    """

    key: str
    prompt: str
    winner: Path
    loser: Path
    winner_size: tuple[int, int]
    loser_size: tuple[int, int]
    source: Path | None = None
    place: str = ""
    doubt: float = 0.0

    @property
    def images(self) -> tuple[Path, ...]:
        """Winner and loser."""
        return self.winner, self.loser

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Of `images`."""
        return self.winner_size, self.loser_size


@dataclass(frozen=True, slots=True)
class RatedImage:
    """One image of one prompt, and whether it was liked.

    Attributes:
        key: stable, unique name within the dataset: the path of the image, such as `liked/cat.png`.
        size: (width, height) in pixels, after the EXIF orientation was applied.
        place: where the dataset has it, as in `Defect.where`.
    """

    key: str
    prompt: str
    image: Path
    liked: bool
    size: tuple[int, int]
    place: str = ""

    @property
    def images(self) -> tuple[Path, ...]:
        """The image alone, for code that treats pairs and images alike."""
        return (self.image,)

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Of `images`."""
        return (self.size,)


@dataclass(frozen=True)
class Scan:
    """All that was found in one folder, in a deterministic order: `pairs`, or `images` where it is unpaired."""

    folder: Path
    layout: Layout
    pairs: tuple[PreferencePair, ...] = ()
    images: tuple[RatedImage, ...] = ()
    ties: int = 0
    defects: tuple[Defect, ...] = ()

    @property
    def unpaired(self) -> bool:
        return self.layout in UNPAIRED

    @property
    def liked(self) -> tuple[RatedImage, ...]:
        return tuple(image for image in self.images if image.liked)

    @property
    def disliked(self) -> tuple[RatedImage, ...]:
        return tuple(image for image in self.images if not image.liked)

    @property
    def rows(self) -> tuple[PreferencePair, ...] | tuple[RatedImage, ...]:
        """The pairs; or the images, the liked before the disliked."""
        return (*self.liked, *self.disliked) if self.unpaired else self.pairs

    @property
    def noun(self) -> Literal["pairs", "images"]:
        """What the rows are, for messages."""
        return "images" if self.unpaired else "pairs"

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompt of each row."""
        return tuple(row.prompt for row in self.rows)

    @property
    def lack(self) -> str:
        """Why there is nothing to train on; empty where there is something."""
        if self.unpaired:
            counts = len(self.liked), len(self.disliked)
            return "" if all(counts) else "no usable images on both sides ({} liked, {} disliked)".format(*counts)
        ties = f" ({self.ties} ties were left out)" if self.ties else ""
        more = "; vote on more of its pairs in the DSPO panel" if self.layout == "collected" and ties else ""
        return "" if self.pairs else f"no usable pair{ties}{more}"

    def usable(self) -> tuple[PreferencePair, ...] | tuple[RatedImage, ...]:
        """The rows to train on.

        Raises:
            DatasetError: there is no pair, or one side has no image; the first ten defects say why.
        """
        if self.lack:
            raise _nothing_usable(self.folder, self.lack, self.defects)
        return self.rows


def _nothing_usable(folder: Path, lack: str, defects: Sequence[Defect]) -> DatasetError:
    return DatasetError("\n  ".join([f"{folder}: {lack}", *shortened(defects, 10)]))
