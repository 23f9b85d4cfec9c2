"""Whether the sets that this process filled still exist."""

from __future__ import annotations

import threading
from pathlib import Path

from ..exceptions import DatasetError
from .entries import EntryError, Header, parse
from .log import LOG_NAME


class Kept:
    """Remembers sets by the id in their first line, and counts how often one was found deleted or replaced.

    The count changes only when a set is missing, never by filling one. It lives as long as this process.
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
        """How many calls for this `key` found one or more of its sets gone."""
        with self._lock:
            noted = self._sets.get(key, {})
            if any(_is_gone(folder, id) for folder, id in noted.items()):
                del self._sets[key]  # filling them again notes them again
                self._losses[key] = self._losses.get(key, 0) + 1
            return self._losses.get(key, 0)

    def folders(self, key: str) -> list[Path]:
        """The sets that were filled on behalf of `key` and not found gone since."""
        with self._lock:
            return list(self._sets.get(key, {}))


def _is_gone(folder: Path, id: str) -> bool:
    try:
        with (folder / LOG_NAME).open("rb") as file:
            entry = parse(file.readline(1 << 16))
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, EntryError, DatasetError):  # locked or damaged: making it anew would not help
        return False
    return isinstance(entry, Header) and entry.id != id
