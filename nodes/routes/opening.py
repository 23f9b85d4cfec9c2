"""The set a request names."""

from __future__ import annotations

from typing import Any

from ...dspo_train.preferences.recognise import is_collected
from .. import collecting
from ..collecting import Place
from .refusals import RefusedError


def opened(place: Place, set: str) -> collecting.PreferenceStore:
    """
    Raises:
        RefusedError: 409 if it was not collected here.
        DspoError: see `collecting.folder_of`.
    """
    folder = collecting.folder_of(place, set)
    if not is_collected(folder):
        raise RefusedError(409, "This set was not collected here; import it into a collected set.")
    return collecting.stores.get(folder)


def counts(store: collecting.PreferenceStore) -> dict[str, Any]:
    """The progress of a set, without its groups."""
    progress = store.progress()
    names = ("answered", "open", "total", "wins", "ties", "skips", "bads", "groups_answered", "groups_total")
    return {name: getattr(progress, name) for name in names}
