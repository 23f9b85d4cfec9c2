"""The file under a preference set: whole lines are appended, nothing is ever changed.

Every write, and every read of what others wrote, holds one lock between processes, so no reader sees half a line. A
line counts as written once it is flushed to the disk. The next process to hold the lock cuts off what a crash
left of a line.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from .. import files
from ..exceptions import DatasetError
from .entries import EntryError, parse

log = logging.getLogger("dspo")

LOG_NAME = "preferences.jsonl"
_LOCK_NAME = ".preferences.lock"
_PATIENCE = 30.0
"""Seconds to wait for another process; it holds the lock for one flush of the disk."""

NumberedLine = tuple[int, bytes]


class PreferenceLog:
    """One process' view of the file: it knows how far it has read.

    Args:
        folder: of the set; made where it is missing.

    Raises:
        RunError: the folder cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise files.cannot_write(folder, error) from error
        self.path = folder / LOG_NAME
        self._lock = FileLock(folder / _LOCK_NAME, timeout=_PATIENCE)
        self._forget()

    def _forget(self) -> None:
        self._offset, self._lines, self._last = 0, 0, b""

    @property
    def lines(self) -> int:
        """How many were read or written."""
        return self._lines

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out. Reentrant.

        Raises:
            DatasetError: another process keeps the lock.
            RunError: the folder cannot be written to.
        """
        try:
            self._lock.acquire(poll_interval=0.005)
        except Timeout as error:
            raise DatasetError(
                f"{self.path}: another program has kept it locked for {_PATIENCE:.0f} seconds; close that program, or "
                f"delete {_LOCK_NAME} beside it if there is none"
            ) from error
        except OSError as error:
            raise files.cannot_write(self.path, error) from error
        try:
            yield
        finally:
            self._lock.release()

    def changed(self) -> bool:
        """Whether there is something that `take` has not returned. Costs one `stat`."""
        try:
            return os.stat(self.path).st_size != self._offset
        except FileNotFoundError:
            return self._offset != 0
        except OSError as error:
            raise _cannot_read(self.path, error) from error

    def take(self) -> tuple[bool, list[NumberedLine]]:
        """The lines added since the last call, numbered from 1. Needs the lock; repairs a torn end.

        Returns:
            Whether the file was replaced, so that these are all its lines, and the lines.
        """
        try:
            restarted = self._replaced()
            if restarted:
                self._forget()
            if not self.path.exists():
                return restarted, []
            with open(self.path, "r+b") as file:
                file.seek(self._offset)
                data = _repaired(file.read(), self._offset, file.fileno(), self.path)
        except OSError as error:
            raise _cannot_read(self.path, error) from error
        lines = data.split(b"\n")[:-1]
        found = [(self._lines + number, line) for number, line in enumerate(lines, 1)]
        self._passed(data)
        return restarted, found

    def append(self, data: bytes) -> int:
        """Write whole lines and flush them to the disk. Needs the lock, and nothing left to `take`.

        Returns:
            The number of the first of these lines.

        Raises:
            RunError: the disk is full or the file cannot be written; nothing of `data` is left in it.
        """
        try:
            with open(self.path, "ab", buffering=0) as file:
                try:
                    _write_all(file.fileno(), data)
                    os.fsync(file.fileno())
                except OSError:
                    with contextlib.suppress(OSError):
                        file.truncate(self._offset)
                    raise
        except OSError as error:
            raise files.cannot_write(self.path, error) from error
        first = self._lines + 1
        self._passed(data)
        return first

    def _passed(self, data: bytes) -> None:
        self._offset += len(data)
        self._lines += data.count(b"\n")
        if data:
            self._last = data[data.rfind(b"\n", 0, -1) + 1 :]

    def _replaced(self) -> bool:
        """Whether the last line read is no longer where it was: the file was restored, edited or deleted."""
        try:
            with open(self.path, "rb") as file:
                file.seek(self._offset - len(self._last))
                return file.read(len(self._last)) != self._last
        except FileNotFoundError:
            return self._offset != 0


def read_log(path: Path) -> list[NumberedLine]:
    """All lines of a set, which may be read-only; a last line that a crash cut short is left out.

    Raises:
        DatasetError: the file cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _cannot_read(path, error) from error
    lines = data.split(b"\n")
    if lines[-1] and not _whole(lines[-1]):
        lines.pop()
    return list(enumerate(lines, 1))


def _repaired(data: bytes, offset: int, handle: int, path: Path) -> bytes:
    """Make the file end with a whole line: complete the last one if only its newline is missing, or cut it off."""
    end = data.rfind(b"\n") + 1
    tail = data[end:]
    if not tail:
        return data
    if _whole(tail):
        os.lseek(handle, 0, os.SEEK_END)
        _write_all(handle, b"\n")
        data += b"\n"
    else:
        log.warning("%s: cut off %d bytes of an unfinished last line", path, len(tail))
        os.ftruncate(handle, offset + end)
        data = data[:end]
    os.fsync(handle)
    return data


def _whole(line: bytes) -> bool:
    try:
        parse(line)
    except EntryError:
        return False
    return True


def _write_all(handle: int, data: bytes) -> None:
    """Write on after a partial write: a nearly full disk takes a part and refuses the rest."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def _cannot_read(path: Path, error: OSError) -> DatasetError:
    return DatasetError(f"{path}: cannot be read ({error.strerror or error}); check the folder's permissions")
