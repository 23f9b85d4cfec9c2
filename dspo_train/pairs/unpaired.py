"""From the liked and disliked images that a layout names to those that can be trained on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .captions import CaptionFinder
from .checks import CheckedImages
from .readings import LayoutReading, unique
from .types import Defect, RatedImage


def usable_images(
    reading: LayoutReading, images: CheckedImages, captions: CaptionFinder, *, allow_empty: bool
) -> tuple[list[RatedImage], list[Defect], list[Defect]]:
    """The images that are sound, and what is wrong with the others: each in itself, then in comparison."""
    defects: list[Defect] = []
    kept, clashes = _settle(_complete(reading, images, captions, defects, allow_empty))
    return kept, defects, clashes


def empty_sides(images: Iterable[RatedImage]) -> list[Defect]:
    """A defect for each of the two sides that has no usable image."""
    sides = {image.liked for image in images}
    message = "there is no usable {0} image; put some into the folder {0}, or label some in the table"
    words = [word for word, liked in (("liked", True), ("disliked", False)) if liked not in sides]
    return [Defect("partner_missing", word, message.format(word)) for word in words]


class _Seen(NamedTuple):
    """A sound image, before it is compared with the others; equal images have equal identities."""

    image: RatedImage
    where: str
    identity: int


def _complete(
    reading: LayoutReading, images: CheckedImages, captions: CaptionFinder, defects: list[Defect], allow_empty: bool
) -> Iterator[_Seen]:
    """The candidates whose image and prompt are sound; the others' defects are noted."""
    keys: set[str] = set()
    for candidate in reading.images:
        found = images.look(candidate.image)
        prompt = captions.prompt(candidate) if found else None
        if found is None or prompt is None:
            continue
        if not prompt and not allow_empty:
            message = "no caption file with text, and no prompt in the metadata; write it into a .txt file of its name"
            if candidate.where != candidate.image:
                message = "this row has no caption, and its image has none either; fill in its column for the caption"
            defects.append(Defect("no_caption", candidate.where, message))
            continue
        path, key = images.root / candidate.image, unique(candidate.key, keys)
        rated = RatedImage(key, prompt, path, candidate.liked, found.size, candidate.where)
        yield _Seen(rated, candidate.where, found.identity)


def _settle(seen: Iterable[_Seen]) -> tuple[list[RatedImage], list[Defect]]:
    """Drop repetitions but the first, and every image that is liked and disliked under one prompt.

    Under two prompts an image may well be liked and disliked ("a red car", "a blue car"), which earns a warning only.
    """
    order = list(seen)
    groups: dict[int, dict[str, list[_Seen]]] = defaultdict(lambda: defaultdict(list))
    for item in order:
        groups[item.identity][item.image.prompt].append(item)
    defects: list[Defect] = []
    dropped: set[str] = set()
    for by_prompt in groups.values():
        for item, defect in _clashes(by_prompt):
            defects.append(defect)
            if defect.fatal:
                dropped.add(item.image.key)
    return [item.image for item in order if item.image.key not in dropped], defects


def _clashes(by_prompt: dict[str, list[_Seen]]) -> Iterator[tuple[_Seen, Defect]]:
    """What is wrong among the uses of one image."""
    for items in by_prompt.values():
        first = items[0]
        opposite = next((item for item in items if item.image.liked != first.image.liked), None)
        for item in items:
            if opposite:
                other = opposite if item.image.liked == first.image.liked else first
                message = f"is the same image as {other.where}, once liked and once disliked; keep one of the two"
                yield item, Defect("contradicting_labels", item.where, message)
            elif item is not first:
                message = f"is the same image as {first.where}, with the same rating; remove one of the two"
                yield item, Defect("same_image", item.where, message)
    first, *others = (items[0] for items in by_prompt.values())
    for item in others:
        if item.image.liked != first.image.liked:
            message = f"has the opposite rating of {first.where}, the same image under another prompt"
            yield item, Defect("contradicting_labels", item.where, message, fatal=False)
