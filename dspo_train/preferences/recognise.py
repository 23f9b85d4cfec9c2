"""Is a folder a collected set?"""

from __future__ import annotations

from pathlib import Path

from ..exceptions import DatasetError
from .entries import EntryError, parse
from .log import LOG_NAME

_HEAD = 1 << 16  # bytes that are read
_LINES = 8  # one valid entry among the first lines identifies our log


def is_collected(folder: Path) -> bool:
    """Does the folder hold a collected set, and not another program's file of the same name?

    Raises:
        DatasetError: it cannot be read at the moment.
    """
    try:
        with (folder / LOG_NAME).open("rb") as file:
            lines = file.read(_HEAD).split(b"\n")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return False
    except OSError as error:
        reason = error.strerror or error
        raise DatasetError(
            f"{folder / LOG_NAME}: cannot be read ({reason}); close the program that has it open"
        ) from error
    return any(_is_ours(line) for line in lines[:_LINES])


def _is_ours(line: bytes) -> bool:
    try:
        parse(line)
    except (EntryError, DatasetError):  # the second: written by a newer version
        return False
    return True
