"""Pictures that were liked or disliked one by one, without pairs, and everything that is wrong with them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..exceptions import DatasetError
from ..images.integrity import ImageError, inspect_image
from .captions import Captions
from .checks import Pictures, unique
from .listing import Listing, list_folder, refuse_without_images
from .types import Defect, nothing_usable
from .unpaired_layouts import OpinionLayout, OpinionReading, opinion_layout, read_opinions

_LAYOUTS = (
    "sub-folders liked/ and disliked/; or opinions.csv or opinions.jsonl with file, caption and label (1 liked, "
    "0 disliked)"
)


@dataclass(frozen=True, slots=True)
class Opinion:
    """One picture of one prompt, and whether it was liked.

    Attributes:
        key: stable, unique name within the dataset: the path of the picture, `liked/cat.png`.
        content: hash of the compressed pixels' checksums and lengths; metadata does not change it.
        size: (width, height) in pixels, after the EXIF orientation was applied.
    """

    key: str
    prompt: str
    picture: Path
    liked: bool
    content: str
    size: tuple[int, int]


@dataclass(frozen=True)
class OpinionScan:
    """All that `scan_opinions` found in one folder, in a deterministic order."""

    folder: Path
    layout: OpinionLayout
    liked: tuple[Opinion, ...]
    disliked: tuple[Opinion, ...]
    defects: tuple[Defect, ...]

    def usable(self) -> tuple[Opinion, ...]:
        """The pictures to train on, the liked before the disliked.

        Raises:
            DatasetError: one side has none; the first ten defects say why.
        """
        if self.liked and self.disliked:
            return self.liked + self.disliked
        lack = f"no usable pictures on both sides ({len(self.liked)} liked, {len(self.disliked)} disliked)"
        raise nothing_usable(self.folder, lack, self.defects)


def looks_unpaired(folder: str | os.PathLike[str]) -> bool:
    """Does a folder hold liked and disliked pictures that the scan for pairs has no use for?

    False for whatever cannot be read at all: the scan for pairs says what is wrong with it.
    """
    try:
        return opinion_layout(list_folder(Path(folder))) is not None
    except DatasetError:
        return False


def scan_opinions(
    folder: str | os.PathLike[str], *, deep: bool = False, allow_empty_captions: bool = False
) -> OpinionScan:
    """Read a folder of liked and disliked pictures; `unpaired_layouts.py` and `unpaired_tables.py` say how they lie.

    Args:
        deep: decode every picture. Slow; finds damaged pixels, and equal pictures in differently compressed files.
        allow_empty_captions: keep a picture without a prompt, with an empty one, instead of leaving it out.

    Raises:
        DatasetError: the folder is missing, unreadable or empty, holds no picture or no known layout.
    """
    root = Path(folder)
    listing = list_folder(root)
    reading = _read(listing)
    pictures, captions = Pictures(root, deep=deep), Captions(root)
    defects = [*listing.defects, *reading.defects]
    seen = list(_complete(reading, pictures, captions, defects, allow_empty_captions))
    kept, clashes = _settle(seen)
    liked = tuple(opinion for opinion in kept if opinion.liked)
    disliked = tuple(opinion for opinion in kept if not opinion.liked)
    empty = [_empty_side(word) for word, side in (("liked", liked), ("disliked", disliked)) if not side]
    found = [*empty, *defects, *pictures.defects, *captions.defects, *clashes]
    return OpinionScan(root, reading.layout, liked, disliked, tuple(dict.fromkeys(found)))


def _read(listing: Listing) -> OpinionReading:
    refuse_without_images(listing)
    layout = opinion_layout(listing)
    if layout is None:
        shown = ", ".join(listing.images[:3])
        raise DatasetError(
            f"{listing.root}: cannot tell which pictures were liked one by one from names such as {shown}; known "
            f"layouts: {_LAYOUTS}"
        )
    return read_opinions(listing, layout)


class _Seen(NamedTuple):
    """A sound picture, before it is compared with the others; equal pictures have equal identities."""

    opinion: Opinion
    where: str
    identity: int


def _complete(
    reading: OpinionReading, pictures: Pictures, captions: Captions, defects: list[Defect], allow_empty: bool
) -> Iterator[_Seen]:
    """The judgements whose picture and prompt are sound; the others' defects are noted."""
    keys: set[str] = set()
    for judgement in reading.judgements:
        candidate = judgement.candidate
        path = pictures.root / candidate.winner
        picture = pictures.look(candidate.winner)
        prompt = captions.prompt(candidate) if picture else None
        if picture is None or prompt is None:
            continue
        if not prompt and not allow_empty:
            message = "has no caption file and no prompt in its metadata; write the prompt into a .txt file of its name"
            defects.append(Defect("no_caption", candidate.where, message))
            continue
        try:
            content = inspect_image(path).fingerprint.hex()
        except ImageError as error:  # it was changed a moment ago
            defects.append(Defect("unreadable_image", candidate.winner, str(error)))
            continue
        key = unique(candidate.key, keys)
        yield _Seen(
            Opinion(key, prompt, path, judgement.liked, content, picture.size), candidate.where, picture.identity
        )


def _settle(seen: Iterable[_Seen]) -> tuple[list[Opinion], list[Defect]]:
    """Drop repetitions but the first, and every picture that is liked and disliked under one prompt.

    Under two prompts a picture may well be liked and disliked ("a red car", "a blue car"), which earns a warning only.
    """
    order = list(seen)
    groups: dict[int, dict[str, list[_Seen]]] = defaultdict(lambda: defaultdict(list))
    for item in order:
        groups[item.identity][item.opinion.prompt].append(item)
    defects: list[Defect] = []
    dropped: set[str] = set()
    for by_prompt in groups.values():
        for item, defect in _clashes(by_prompt):
            defects.append(defect)
            if defect.fatal:
                dropped.add(item.opinion.key)
    return [item.opinion for item in order if item.opinion.key not in dropped], defects


def _clashes(by_prompt: dict[str, list[_Seen]]) -> Iterator[tuple[_Seen, Defect]]:
    """What is wrong among the uses of one picture."""
    for items in by_prompt.values():
        first = items[0]
        opposite = next((item for item in items if item.opinion.liked != first.opinion.liked), None)
        for item in items:
            if opposite:
                other = opposite if item.opinion.liked == first.opinion.liked else first
                message = f"is the same picture as {other.where}, once liked and once disliked; keep one of the two"
                yield item, Defect("contradicting_labels", item.where, message)
            elif item is not first:
                message = f"is the same picture as {first.where}, with the same opinion; remove one of the two"
                yield item, Defect("same_picture", item.where, message)
    first, *others = (items[0] for items in by_prompt.values())
    for item in others:
        if item.opinion.liked != first.opinion.liked:
            message = f"has the opposite opinion of {first.where}, the same picture under another prompt"
            yield item, Defect("contradicting_labels", item.where, message, fatal=False)


def _empty_side(word: str) -> Defect:
    message = f"there is no usable {word} picture; put some into the folder {word}, or label some in the table"
    return Defect("partner_missing", word, message)
