"""A name to show for a folder whose own name other things go by: a run is resumed, and a test found again, by it."""

from __future__ import annotations

from pathlib import Path

from . import write_text
from .names import file_name

_FILE = "title.txt"
_LONGEST = 1000  # bytes that are read


def title_of(folder: Path) -> str | None:
    """The folder's title; None if it has none."""
    try:
        with (folder / _FILE).open("rb") as file:
            return file_name(file.read(_LONGEST).decode("utf-8"))
    except (OSError, ValueError):  # ConfigError is a ValueError
        return None


def give_title(folder: Path, title: str) -> None:
    """Show the folder as `title`; its own name takes the title away.

    Raises:
        ConfigError: the title is not a plain name.
        RunError: it cannot be written.
    """
    title = file_name(title, "the title")
    if title == folder.name:
        (folder / _FILE).unlink(missing_ok=True)
    else:
        write_text(folder / _FILE, title)
