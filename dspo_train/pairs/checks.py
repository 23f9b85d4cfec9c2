"""Checks on pairs whose files are named: pictures whole and of sane size, and labels that agree with each other."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..exceptions import DatasetError
from ..images.decode import MAX_PIXELS, load_rgb
from ..images.integrity import ImageError, content_hash, inspect_image
from .types import Candidate, Defect, PreferencePair

MIN_SIDE, MAX_SIDE = 64, 16384
MAX_ASPECT = 4.0
_CLEAR_ASPECT_DIFFERENCE = 1.1


class Picture(NamedTuple):
    """A file that passed. Files with the same pixels have the same `identity`."""

    size: tuple[int, int]
    identity: int


class Pictures:
    """Looks at each file of one dataset folder once; what is wrong with it is noted once."""

    def __init__(self, root: Path, *, deep: bool) -> None:
        self.root = root
        self._deep = deep
        self._seen: dict[str, Picture | None] = {}
        self._first: dict[bytes, str] = {}
        self._identities: dict[bytes, int] = {}
        self.defects: list[Defect] = []

    def look(self, relative: str) -> Picture | None:
        """The picture at a path relative to the folder, or None where it is defective."""
        if relative not in self._seen:
            self._seen[relative] = self._look(relative)
        return self._seen[relative]

    def _look(self, relative: str) -> Picture | None:
        path = self.root / relative
        try:
            structure = inspect_image(path)
            problem = _size_problem(*structure.size)
            if problem:
                self.defects.append(Defect("bad_size", relative, problem))
                return None
            fingerprint = _decoded_fingerprint(path) if self._deep else structure.fingerprint
            return Picture(structure.size, self._identify(relative, fingerprint))
        except ImageError as error:
            self.defects.append(Defect("unreadable_image", relative, str(error)))
        except DatasetError as error:
            message = str(error).removeprefix(f"{path}: ")
            self.defects.append(Defect("unreadable_image", relative, message))
        return None

    def _identify(self, relative: str, fingerprint: bytes) -> int:
        """The number of this picture. A fingerprint seen before is proved by a hash of all compressed pixels."""
        first = self._first.setdefault(fingerprint, relative)
        if first == relative:
            return self._identities.setdefault(fingerprint, len(self._identities))
        if self._deep:
            return self._identities[fingerprint]
        proof, first_proof = content_hash(self.root / relative), content_hash(self.root / first)
        if proof == first_proof:
            return self._identities[fingerprint]
        return self._identities.setdefault(proof, len(self._identities))


@dataclass(frozen=True, slots=True)
class Judged:
    """A pair that is complete in itself, before it is compared with the others."""

    pair: PreferencePair
    where: str
    winner_id: int
    loser_id: int


def shape_warning(pair: PreferencePair, where: str) -> Defect | None:
    """A warning where the two pictures would not fill the same bucket alike."""
    (w_width, w_height), (l_width, l_height) = pair.winner_size, pair.loser_size
    difference = abs(math.log(w_width * l_height / (w_height * l_width)))
    if difference <= math.log(_CLEAR_ASPECT_DIFFERENCE):
        return None
    message = (
        f"winner {w_width}x{w_height} and loser {l_width}x{l_height} have different shapes; the loser is cropped "
        "to the winner's"
    )
    return Defect("aspect_mismatch", where, message, fatal=False)


def settle(judged: Iterable[Judged]) -> tuple[list[Judged], list[Defect]]:
    """Drop repeated pairs but the first, and all pairs of the same two pictures that contradict each other.

    Pairs are compared by prompt and picture: under two prompts the same two pictures may well be ranked both ways
    ("a red car", "a blue car"), which earns a warning only.
    """
    groups: dict[frozenset[int], list[Judged]] = defaultdict(list)
    order = list(judged)
    for item in order:
        groups[frozenset((item.winner_id, item.loser_id))].append(item)
    dropped: set[int] = set()
    defects: list[Defect] = []
    for group in groups.values():
        if len(group) > 1:
            for item, defect in _group_defects(group):
                defects.append(defect)
                if defect.fatal:
                    dropped.add(id(item))
    return [item for item in order if id(item) not in dropped], defects


def _group_defects(group: list[Judged]) -> Iterable[tuple[Judged, Defect]]:
    """What is wrong among pairs of the same two pictures."""
    by_prompt: dict[str, list[Judged]] = defaultdict(list)
    for item in group:
        by_prompt[item.pair.prompt].append(item)
    for items in by_prompt.values():
        opposite = next((item for item in items if item.winner_id != items[0].winner_id), None)
        for item in items:
            if opposite:
                other = opposite if item.winner_id == items[0].winner_id else items[0]
                message = f"says the opposite of {other.where}, on the same two pictures; keep one of the two"
                yield item, Defect("contradicting_labels", item.where, message)
            elif item is not items[0]:
                message = f"repeats {items[0].where}: same pictures, same winner; remove one of the two"
                yield item, Defect("duplicate_pair", item.where, message)
    firsts = [items[0] for items in by_prompt.values()]
    for item in firsts[1:]:
        if item.winner_id != firsts[0].winner_id:
            message = f"ranks the same two pictures the other way round than {firsts[0].where}, under another prompt"
            yield item, Defect("contradicting_labels", item.where, message, fatal=False)


def same_picture(candidate: Candidate) -> Defect:
    """The defect of a pair that shows one picture twice."""
    message = f"winner and loser are the same picture ({candidate.winner}, {candidate.loser}); replace one of them"
    if candidate.winner == candidate.loser:
        message = f"winner and loser are the same file ({candidate.winner}); name two different pictures"
    return Defect("same_picture", candidate.where, message)


def _size_problem(width: int, height: int) -> str | None:
    size = f"{width}x{height} pixels"
    if width * height > MAX_PIXELS:
        return f"{size} are over 64 megapixels; scale the picture down"
    if max(width, height) > MAX_SIDE:
        return f"{size}: a side is over {MAX_SIDE}; scale the picture down"
    if min(width, height) < MIN_SIDE:
        return f"{size}: a side is under {MIN_SIDE}; use a larger picture"
    if max(width, height) > MAX_ASPECT * min(width, height):
        return f"{size} is narrower than 1:{MAX_ASPECT:.0f}; crop the picture"
    return None


def _decoded_fingerprint(path: Path) -> bytes:
    image = load_rgb(path)
    return hashlib.sha256(f"{image.size}".encode() + image.tobytes()).digest()


def unique(key: str, keys: set[str]) -> str:
    """The key, numbered where an earlier item has it: one table may name the same pictures under several prompts."""
    number, found = 1, key
    while found in keys:
        number += 1
        found = f"{key}#{number}"
    keys.add(found)
    return found
