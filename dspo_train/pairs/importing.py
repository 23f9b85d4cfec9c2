"""Pairs that were judged elsewhere, imported into a set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .. import files
from ..exceptions import DatasetError
from ..preferences.entries import canonical, digits, pair_id
from ..preferences.images import image_name
from ..preferences.store import PreferenceStore
from ..preferences.types import NewImage, Recorded
from .scan import scan_pairs
from .types import Defect, PreferencePair

_SOURCE = "import"


@dataclass(frozen=True, slots=True)
class ImportReport:
    """How many pairs came in, how many were in the set already, and what was left out and why."""

    added: int
    already: int
    ties: int
    defects: tuple[Defect, ...]


def import_folder(store: PreferenceStore, folder: Path) -> ImportReport:
    """Copy the pairs of a folder in any layout into the set: a group of two images each, with a vote.

    A second import of the same pairs adds nothing, changes no vote that a person has given since, and does not bring
    back a removed pair. An interrupted import continues where it stopped. Ties are left out.

    Raises:
        DatasetError: the folder cannot be read as pairs, or an image cannot be read.
        RunError: the set cannot be written to, or the disk is full.
    """
    scan = scan_pairs(folder)
    added, already, defects = 0, 0, list(scan.defects)
    for pair in scan.pairs:
        new = _import_pair(store, pair)
        added += new is True
        already += new is False
        if new is None:
            defects.append(Defect("same_image", pair.key, "both images are the same; use two different ones"))
    return ImportReport(added, already, scan.ties, tuple(defects))


def _import_pair(store: PreferenceStore, pair: PreferencePair) -> bool | None:
    """Whether it was added; None where the pixels of both images are the same."""
    try:
        data = [pair.winner.read_bytes(), pair.loser.read_bytes()]
    except OSError as error:
        raise DatasetError(f"{pair.winner.parent}: cannot be read ({error.strerror or error})") from error
    winner, loser = map(image_name, data)
    if digits(winner) == digits(loser):
        return None
    names = canonical(winner, loser)
    # The same pair under the same prompt has the same ids whichever folder it comes from.
    group = files.digest(_SOURCE, pair.prompt, *names)[:32]
    vote = files.digest(_SOURCE, group, winner)[:32]
    # Sorted, so that the order of a group's images does not give away who won.
    new = [NewImage(each) for _, each in sorted(zip((winner, loser), data, strict=True))]
    stored = store.add_group(pair.prompt, new, settings={"imported": pair.key}, id=group)
    if store.find(vote) is not None:
        return False
    best = next(name for name in stored.names if digits(name) == digits(winner))  # may be there as another type of file
    answer = store.vote(pair_id(group, names), "win", best, id=vote, source=_SOURCE)
    return isinstance(answer, Recorded)
