"""From the pairs that a layout names to those that can be trained on."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .captions import CaptionFinder
from .checks import CheckedImages
from .listing import EXTRACTED
from .readings import Candidate, LayoutReading, unique, unusable_source
from .types import Defect, PreferencePair

_CLEAR_ASPECT_DIFFERENCE = 1.1


def usable_pairs(
    reading: LayoutReading, images: CheckedImages, captions: CaptionFinder, *, allow_empty: bool
) -> tuple[list[PreferencePair], list[Defect], list[Defect]]:
    """The pairs that are sound, and what is wrong with the others: each in itself, then in comparison."""
    defects: list[Defect] = []
    kept, clashes = _settle(_complete(reading, images, captions, defects, allow_empty))
    return kept, defects, clashes


@dataclass(frozen=True, slots=True)
class _Seen:
    """A pair that is complete in itself, before it is compared with the others."""

    pair: PreferencePair
    where: str
    winner_id: int
    loser_id: int


def _complete(
    reading: LayoutReading, images: CheckedImages, captions: CaptionFinder, defects: list[Defect], allow_empty: bool
) -> Iterator[_Seen]:
    """The candidates whose two images and prompt are sound; the others' defects are noted."""
    keys: set[str] = set()
    for candidate in reading.pairs:
        winner, loser = (images.look(image, candidate.where) for image in candidate.images)
        if winner is None or loser is None:
            continue
        if winner.identity == loser.identity:
            defects.append(_same_image(candidate))
            continue
        prompt = captions.prompt(candidate)
        if prompt is None:
            continue
        if not prompt and not allow_empty:
            defects.append(_no_caption(candidate))
            continue
        pair = PreferencePair(
            unique(candidate.key, keys),
            prompt,
            images.root / candidate.winner,
            images.root / candidate.loser,
            winner.size,
            loser.size,
            _source(candidate, images, defects),
            candidate.where,
            candidate.doubt,
        )
        warning = _shape_warning(pair, candidate.where)
        if warning:
            defects.append(warning)
        yield _Seen(pair, candidate.where, winner.identity, loser.identity)


def _source(candidate: Candidate, images: CheckedImages, defects: list[Defect]) -> Path | None:
    if not candidate.source:
        return None
    found = images.inspect(candidate.source)
    if isinstance(found, Defect):
        defects.append(unusable_source(candidate.where, f"the source image {found}"))
        return None
    return images.root / candidate.source


def _no_caption(candidate: Candidate) -> Defect:
    message = "no caption file with text, and no prompt in the image's metadata; write it into a .txt file of its name"
    if candidate.where != candidate.winner:
        message = "this row has no prompt, and its images have none either; fill in its column for the prompt"
    return Defect("no_caption", candidate.where, message)


def _same_image(candidate: Candidate) -> Defect:
    embedded = candidate.winner.startswith(EXTRACTED)
    names = "" if embedded else f" ({candidate.winner}, {candidate.loser})"
    message = f"winner and loser are the same image{names}; replace one of them"
    if candidate.winner == candidate.loser and not embedded:
        message = f"winner and loser are the same file ({candidate.winner}); name two different images"
    return Defect("same_image", candidate.where, message)


def _shape_warning(pair: PreferencePair, where: str) -> Defect | None:
    """A warning where the two images differ so much in shape that the loser loses part of its content to the crop."""
    (w_width, w_height), (l_width, l_height) = pair.winner_size, pair.loser_size
    difference = abs(math.log(w_width * l_height / (w_height * l_width)))
    if difference <= math.log(_CLEAR_ASPECT_DIFFERENCE):
        return None
    message = (
        f"winner {w_width}x{w_height} and loser {l_width}x{l_height} have different shapes; the loser is cropped "
        "to the winner's"
    )
    return Defect("aspect_mismatch", where, message, fatal=False)


def _settle(seen: Iterable[_Seen]) -> tuple[list[PreferencePair], list[Defect]]:
    """Drop repeated pairs but the first, and all pairs of the same two images that contradict each other.

    Pairs are compared by prompt and image: under two prompts the same two images may well be ranked both ways
    ("a red car", "a blue car"), which earns a warning only.
    """
    groups: dict[frozenset[int], list[_Seen]] = defaultdict(list)
    order = list(seen)
    for item in order:
        groups[frozenset((item.winner_id, item.loser_id))].append(item)
    dropped: set[int] = set()
    defects: list[Defect] = []
    for group in groups.values():
        if len(group) > 1:
            for item, defect in _clashes(group):
                defects.append(defect)
                if defect.fatal:
                    dropped.add(id(item))
    return [item.pair for item in order if id(item) not in dropped], defects


def _clashes(group: list[_Seen]) -> Iterator[tuple[_Seen, Defect]]:
    """What is wrong among pairs of the same two images."""
    by_prompt: dict[str, list[_Seen]] = defaultdict(list)
    for item in group:
        by_prompt[item.pair.prompt].append(item)
    for items in by_prompt.values():
        opposite = next((item for item in items if item.winner_id != items[0].winner_id), None)
        for item in items:
            if opposite:
                other = opposite if item.winner_id == items[0].winner_id else items[0]
                message = f"contradicts {other.where}, which ranks the same two images the other way; keep one of them"
                yield item, Defect("contradicting_labels", item.where, message)
            elif item is not items[0]:
                message = f"repeats {items[0].where}: same images, same winner; remove one of them"
                yield item, Defect("duplicate_pair", item.where, message)
    firsts = [items[0] for items in by_prompt.values()]
    for item in firsts[1:]:
        if item.winner_id != firsts[0].winner_id:
            message = f"ranks the same two images the opposite way to {firsts[0].where}, under another prompt"
            yield item, Defect("contradicting_labels", item.where, message, fatal=False)
