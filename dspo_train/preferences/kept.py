"""Whether what this process put into sets is still there."""

from __future__ import annotations

import threading
from pathlib import Path

from ..exceptions import DatasetError
from .entries import EntryError, Header, parse
from .log import LOG_NAME


class Kept:
    """Remembers sets by the id in their first line, and counts how often one was found deleted or replaced.

    The count changes when something is missing and at nothing else, least of all by filling a set. It is as
    short-lived as a cache in this process' memory.
    """

    def __init__(self) -> None:
        self._sets: dict[str, dict[Path, str]] = {}
        self._losses: dict[str, int] = {}
        self._lock = threading.Lock()

    def note(self, key: str, folder: Path, id: str) -> None:
        """The set of that id was filled, on behalf of `key`."""
        with self._lock:
            self._sets.setdefault(key, {})[folder] = id

    def losses(self, key: str) -> int:
        """How often one or more of the sets noted under `key` were gone when this was called."""
        with self._lock:
            noted = self._sets.get(key, {})
            if any(_is_gone(folder, id) for folder, id in noted.items()):
                del self._sets[key]  # whoever fills them again notes them again
                self._losses[key] = self._losses.get(key, 0) + 1
            return self._losses.get(key, 0)


def _is_gone(folder: Path, id: str) -> bool:
    try:
        with (folder / LOG_NAME).open("rb") as file:
            entry = parse(file.readline(1 << 16))
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, EntryError, DatasetError):  # locked or damaged, which making it anew would not mend
        return False
    return isinstance(entry, Header) and entry.id != id
