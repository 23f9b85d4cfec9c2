"""A set's pairs on a wire, and how far its voting has come."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..dspo_train.exceptions import DatasetError
from ..dspo_train.files import digest
from ..dspo_train.pairs.discover import stamp
from ..dspo_train.preferences.recognise import is_collected
from . import collecting
from .sockets import PairSet

if TYPE_CHECKING:
    from ..dspo_train.preferences import PreferenceStore


def pair_set(name: str, folder: Path, *, opinions: bool = False, allow_empty_captions: bool = False) -> PairSet:
    """What is in the folder to train on; `Scan.usable` says whether it is enough.

    Args:
        opinions: read a collected set as liked and disliked images.

    Raises:
        DatasetError: it is a collected set, and nobody has voted on it yet; or it holds no opinions.
    """
    from ..dspo_train.pairs import scan_folder, scan_opinions

    if is_collected(folder):
        _refuse_unvoted(name, collecting.stores.get(folder))
    before = stamp(folder)
    scan = scan_opinions if opinions else scan_folder
    return PairSet(name, scan(folder, allow_empty_captions=allow_empty_captions), before)


def votes_stamp(folder: Path) -> str:
    """Changes when the pairs that have a winner do; empty where there is no collected set."""
    if not is_collected(folder):
        return ""
    judged = collecting.stores.get(folder).judged()
    return digest(*(f"{each.pair} {each.winner}" for each in judged))


def _refuse_unvoted(name: str, store: PreferenceStore) -> None:
    progress = store.progress()
    if progress.answered > progress.skips:
        return
    waiting = f"; {progress.open} pairs wait for your vote there" if progress.open else ""
    raise DatasetError(
        f"Vote first: open the DSPO panel in ComfyUI's sidebar and choose the better images of {name!a}{waiting}. Then "
        "run the graph again"
    )
