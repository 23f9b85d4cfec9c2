"""Pairs that were judged elsewhere, taken into a set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .. import files
from ..exceptions import DatasetError
from ..pairs.scan import scan_pairs
from ..pairs.types import Defect, PreferencePair
from .entries import canonical, pair_id
from .pictures import picture_name
from .store import PreferenceStore
from .types import NewPicture, Recorded

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
    added = sum(_import_pair(store, pair) for pair in scan.pairs)
    return ImportReport(added, len(scan.pairs) - added, scan.ties, scan.defects)


def _import_pair(store: PreferenceStore, pair: PreferencePair) -> bool:
    try:
        pictures = [pair.winner.read_bytes(), pair.loser.read_bytes()]
    except OSError as error:
        raise DatasetError(f"{pair.winner.parent}: cannot be read ({error.strerror or error})") from error
    winner = picture_name(pictures[0])
    # Sorted, since the order of a group's pictures is not to say who won.
    pictures.sort(key=picture_name)
    names = canonical(*map(picture_name, pictures))
    # The same pair under the same prompt has the same ids whichever folder it comes from.
    group = files.digest(SOURCE, pair.prompt, *names)[:32]
    vote = files.digest(SOURCE, group, winner)[:32]
    store.add_group(pair.prompt, [NewPicture(data) for data in pictures], settings={"imported": pair.key}, id=group)
    if store.find(vote) is not None:
        return False
    answer = store.vote(pair_id(group, names), "win", winner, id=vote, source=SOURCE)
    return isinstance(answer, Recorded)
