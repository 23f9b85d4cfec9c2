"""Pairs that were judged elsewhere, taken into a set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .. import files
from ..exceptions import DatasetError
from ..preferences.entries import canonical, digits, pair_id
from ..preferences.images import picture_name
from ..preferences.store import PreferenceStore
from ..preferences.types import NewPicture, Recorded
from .scan import scan_pairs
from .types import Defect, PreferencePair

SOURCE = "import"


@dataclass(frozen=True, slots=True)
class ImportReport:
    """How many pairs came in, how many were in the set already, and what stayed out of it and why."""

    added: int
    already: int
    ties: int
    defects: tuple[Defect, ...]


def import_folder(store: PreferenceStore, folder: Path) -> ImportReport:
    """Copy the pairs of a folder in any layout into the set: a group of two pictures each, with a vote.

    A second import of the same pairs adds nothing; nor does it change a vote that was since given by a person, or
    bring back a pair that was removed. An import that was cut short goes on where it stood. Ties are left out.

    Raises:
        DatasetError: the folder cannot be read as pairs, or a picture cannot be read.
        RunError: the set cannot be written to, or the disk is full.
    """
    scan = scan_pairs(folder)
    added, already, defects = 0, 0, list(scan.defects)
    for pair in scan.pairs:
        new = _import_pair(store, pair)
        added += new is True
        already += new is False
        if new is None:
            defects.append(Defect("same_image", pair.key, "both pictures are the same; give two different ones"))
    return ImportReport(added, already, scan.ties, tuple(defects))


def _import_pair(store: PreferenceStore, pair: PreferencePair) -> bool | None:
    """Whether it was added; None where its pictures differ in nothing that is seen."""
    try:
        pictures = [pair.winner.read_bytes(), pair.loser.read_bytes()]
    except OSError as error:
        raise DatasetError(f"{pair.winner.parent}: cannot be read ({error.strerror or error})") from error
    winner = picture_name(pictures[0])
    if digits(winner) == digits(picture_name(pictures[1])):
        return None
    # Sorted, since the order of a group's pictures is not to say who won.
    pictures.sort(key=picture_name)
    names = canonical(*map(picture_name, pictures))
    # The same pair under the same prompt has the same ids whichever folder it comes from.
    group = files.digest(SOURCE, pair.prompt, *names)[:32]
    vote = files.digest(SOURCE, group, winner)[:32]
    new = [NewPicture(data) for data in pictures]
    stored = store.add_group(pair.prompt, new, settings={"imported": pair.key}, id=group)
    if store.find(vote) is not None:
        return False
    best = next(name for name in stored.names if digits(name) == digits(winner))  # may be there as another type of file
    answer = store.vote(pair_id(group, names), "win", best, id=vote, source=SOURCE)
    return isinstance(answer, Recorded)
