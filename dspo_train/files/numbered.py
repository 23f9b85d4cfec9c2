"""Folders that share a name and differ by a number: `name-01`, `name-02`, ..."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from .. import files


def numbered_paths(parent: Path, name: str, suffix: str = "") -> Iterator[tuple[int, Path]]:
    """Folders and files of that name with a number, newest first; `suffix` may follow."""
    pattern = re.compile(rf"{re.escape(name)}-(\d{{2,6}})({re.escape(suffix)})?")
    for path in sorted(parent.iterdir(), reverse=True) if parent.is_dir() else ():
        if match := pattern.fullmatch(path.name):
            yield int(match[1]), path


def claim_number(parent: Path, name: str, taken: int) -> Path:
    """Make the first folder with a number above `taken` that does not exist yet.

    Raises:
        RunError: the folder cannot be made.
    """
    while True:
        taken += 1
        folder = parent / f"{name}-{taken:02d}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:  # another process was faster
            continue
        except OSError as error:
            raise files.cannot_write(folder, error) from error
        return folder
