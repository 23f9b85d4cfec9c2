"""A set's log and what it says, held still for one call at a time: for every thread and process."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from ..exceptions import DatasetError
from .entries import LOG_VERSION, EntryError, encode_entry, parse
from .log import PreferenceLog
from .state import SetState


class LiveSet:
    """What `PreferenceStore` reads and writes by.

    Args:
        folder: of the set; created, with an empty set, where there is none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._log = PreferenceLog(folder)
        self._state = SetState()
        self._lock = threading.RLock()
        self._retired = False
        with self._current(write=True):
            pass

    @property
    def id(self) -> str:
        """The name that the set was given when it was created."""
        with self._lock:
            return self._state.header.id if self._state.header else ""

    @contextmanager
    def retired(self) -> Iterator[None]:
        """Move or delete the set's folder inside this block: calls under way end before, and later ones find it gone.

        They raise DatasetError and write nothing, where a new store would make a new set. If the block fails, the store
        goes on as before.
        """
        with self._lock:
            with self._log.locked():  # let another process finish; Windows moves no folder with an open lock in it
                pass
            yield
            self._retired = True

    @contextmanager
    def _current(self, *, write: bool = False) -> Iterator[None]:
        """Hold this set still and up to date; with `write`, against other processes too."""
        with self._lock:
            if self._retired:
                raise DatasetError(f"{self.folder}: this set was moved or deleted; refresh the list")
            if not write and self._state.header and not self._log.changed():
                self._state.settle()
                yield
                return
            with self._log.locked():
                if self._log.changed():
                    self._read()
                if self._state.header is None:
                    self._write("set", {"version": LOG_VERSION, "seed": secrets.token_hex(16)})
                self._state.settle()
                yield

    def _read(self) -> None:
        restarted, lines = self._log.take()
        if restarted:
            self._state = SetState()
        self._state.feed(lines)

    def _write(
        self, kind: Literal["set", "group", "vote", "undo", "remove", "restore"], *rows: Mapping[str, Any]
    ) -> None:
        """Append lines and read them back as written, so that memory and disk cannot differ."""
        lines = [encode_entry(kind, **row) for row in rows]
        try:
            for line in lines:
                parse(line)
        except EntryError as error:
            raise DatasetError(f"{self._log.path}: this {kind} {error}") from error
        first = self._log.append(b"".join(lines))
        self._state.feed(enumerate(lines, first))
        self._state.settle()
