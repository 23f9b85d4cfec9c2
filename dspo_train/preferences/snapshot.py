"""A set as its file stands now, for lists of many sets: read without a lock, and nothing is written or created."""

from __future__ import annotations

from pathlib import Path

from .entries import Group
from .log import LOG_NAME, read_log
from .state import SetState
from .types import Judged, VotingProgress


class SetSnapshot:
    """Answers as `PreferenceStore` does, of the lines that were there when it was made.

    Raises:
        DatasetError: the log cannot be read, or a newer program made it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._state = SetState()
        self._state.feed(read_log(folder / LOG_NAME))
        self._state.settle()

    def progress(self) -> VotingProgress:
        return self._state.progress()

    def judged(self, *, ties: bool = False) -> list[Judged]:
        """See `PreferenceStore.judged`."""
        return [judged for judged in self._state.judged() if ties or judged.winner is not None]

    def groups(self) -> list[Group]:
        """See `PreferenceStore.groups`."""
        return self._state.present_groups()
