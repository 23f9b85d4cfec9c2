"""What the reader of one layout makes of a folder, before any image or caption was opened."""

from __future__ import annotations

from dataclasses import dataclass, field

from .types import Defect, Layout


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pair as its layout names it. Paths are relative to the dataset folder, with `/`, spelled as on disk.

    Attributes:
        where: the place a defect of this pair should point to.
        captions: caption files to try, best first; only files that exist.
        prompt: a prompt the layout itself supplies; it goes before the caption files.
        source: the image that both were made from; empty where none is named.
        doubt: the share of its label that is believed wrong.
    """

    key: str
    where: str
    winner: str
    loser: str
    captions: tuple[str, ...] = ()
    prompt: str = ""
    source: str = ""
    doubt: float = 0.0

    @property
    def images(self) -> tuple[str, ...]:
        return self.winner, self.loser


@dataclass(frozen=True, slots=True)
class RatedCandidate:
    """An image as its layout names it, and whether it was liked; attributes as of `Candidate`."""

    key: str
    where: str
    image: str
    liked: bool
    captions: tuple[str, ...] = ()
    prompt: str = ""

    @property
    def images(self) -> tuple[str, ...]:
        return (self.image,)


@dataclass
class LayoutReading:
    """What one reader found: `pairs`, or `images` where the layout is unpaired.

    Attributes:
        used: files that the layout accounts for besides those of `pairs` and `images`: tables, unjudged images, images
            and captions of a defect.
        stems: names, without suffix, that a caption of this layout may have besides those of the images.
    """

    layout: Layout
    pairs: list[Candidate] = field(default_factory=list)
    images: list[RatedCandidate] = field(default_factory=list)
    ties: int = 0
    defects: list[Defect] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    stems: set[str] = field(default_factory=set)


def unique(key: str, keys: set[str]) -> str:
    """The key, numbered where an earlier item has it: one table may name the same images under several prompts."""
    number, found = 1, key
    while found in keys:
        number += 1
        found = f"{key}#{number}"
    keys.add(found)
    return found


def unusable_source(where: str, reason: str) -> Defect:
    """The warning about a source image that cannot be used; the pair does not depend on it and stays."""
    return Defect("bad_source", where, f"{reason}. The pair is kept without its source image", fatal=False)
