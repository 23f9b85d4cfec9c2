"""What a dataset scan finds: pairs, and defects said in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..exceptions import DatasetError

Layout = Literal["collected", "metadata", "subfolders", "suffixes", "ranked"]

DefectKind = Literal[
    "partner_missing",
    "missing_file",
    "ambiguous_name",
    "bad_name",
    "unreadable_image",
    "unsupported_format",
    "bad_size",
    "aspect_mismatch",
    "no_caption",
    "bad_caption",
    "multiline_caption",
    "same_picture",
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
    """One thing to mend in a dataset.

    Attributes:
        where: a path relative to the dataset folder, `file:line` or `file:row N`.
        message: what is wrong and what to do about it.
        fatal: True where a pair was left out because of it, False for a warning.
    """

    kind: DefectKind
    where: str
    message: str
    fatal: bool = True

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """Two pictures of one prompt, and which of them was preferred.

    Attributes:
        key: stable, unique name within the dataset, such as `cat`, `sub/cat#0>2` or `a.png>b.png`.
        winner_size, loser_size: (width, height) in pixels, after the EXIF orientation was applied.
    """

    key: str
    prompt: str
    winner: Path
    loser: Path
    winner_size: tuple[int, int]
    loser_size: tuple[int, int]


@dataclass(frozen=True)
class PairScan:
    """All that `scan_pairs` found in one folder, in a deterministic order."""

    folder: Path
    layout: Layout
    pairs: tuple[PreferencePair, ...]
    ties: int
    defects: tuple[Defect, ...]

    def usable(self) -> tuple[PreferencePair, ...]:
        """The pairs to train on.

        Raises:
            DatasetError: there is none; the first ten defects say why.
        """
        if self.pairs:
            return self.pairs
        ties = f" ({self.ties} ties were left out)" if self.ties else ""
        raise nothing_usable(self.folder, f"no usable pair{ties}", self.defects)


def nothing_usable(folder: Path, lack: str, defects: Sequence[Defect]) -> DatasetError:
    """The error of a folder that gives nothing to train on, with its first ten defects."""
    shown = [f"  {defect}" for defect in defects[:10]]
    rest = len(defects) - len(shown)
    if rest > 0:
        shown.append(f"  and {rest} more")
    return DatasetError("\n".join([f"{folder}: {lack}", *shown]))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pair as its layout names it, before any picture or caption was looked at.

    Paths are relative to the dataset folder, with `/`, spelled as on disk.

    Attributes:
        where: the place a defect of this pair should point to.
        captions: caption files to try, best first; only files that exist.
        prompt: a prompt the layout itself supplies; it goes before the caption files.
    """

    key: str
    where: str
    winner: str
    loser: str
    captions: tuple[str, ...] = ()
    prompt: str = ""


@dataclass
class Reading:
    """What one layout reader found."""

    layout: Layout
    candidates: list[Candidate] = field(default_factory=list)
    ties: int = 0
    defects: list[Defect] = field(default_factory=list)
