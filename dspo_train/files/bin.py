"""A bin beside what is listed: a deleted folder is moved into it, and can be put back.

    ROOT/.bin/20260131-120000-my-taste/        the folder as it was
    ROOT/.bin/20260131-120000-my-taste.json    {"name": "cats/my-taste"}: what it was called

Moving within one disk is one step: a folder is in its place or in the bin, whole.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from ..exceptions import DatasetError
from . import cannot_write, write_json
from .names import file_name, inside, parts_of

BIN = ".bin"
_ENTRY = re.compile(r"(\d{8}-\d{6})-(?:(\d{1,4})\.)?(.+)")
_STAMP = "%Y%m%d-%H%M%S"
_TRIES = 5  # Windows moves no folder while a virus scanner or a thumbnail has a file of it open
_PAUSE = 0.1  # seconds


@dataclass(frozen=True)
class Binned:
    """A deleted folder.

    Attributes:
        entry: its name in the bin.
        name: what it was called below the root, with `/`.
        deleted: in UTC, such as 2026-01-31T12:00:00Z.
    """

    entry: str
    name: str
    deleted: str


def discard(root: Path, name: str) -> Binned:
    """Move the folder `name` below `root` into the bin.

    Raises:
        ConfigError: the name leads outside.
        DatasetError: there is no such folder.
        RunError: it cannot be moved; it is where it was.
    """
    folder = inside(root, name)
    if not folder.is_dir():
        raise DatasetError(f"{folder}: there is no such folder; refresh the list")
    entry = _new_entry(root, parts_of(name)[-1])
    write_json(_note(root, entry), {"name": "/".join(parts_of(name))})
    try:
        move(folder, root / BIN / entry)
    except Exception:
        _note(root, entry).unlink(missing_ok=True)
        raise
    return _binned(root, entry)


def binned(root: Path) -> list[Binned]:
    """What is in the bin, the last deleted first."""
    try:
        with os.scandir(root / BIN) as entries:
            names = [it.name for it in entries if it.is_dir(follow_symlinks=False) and _ENTRY.fullmatch(it.name)]
    except OSError:
        return []
    return [_binned(root, name) for name in sorted(names, reverse=True)]


def put_back(root: Path, entry: str, name: str) -> Path:
    """Move an entry of the bin back to `name` below `root`.

    Raises:
        ConfigError: a name leads outside.
        DatasetError: there is no such entry, or something is at `name`.
        RunError: it cannot be moved; it stays in the bin.
    """
    source = _entry_folder(root, entry)
    target = inside(root, name)
    move(source, target)
    _note(root, entry).unlink(missing_ok=True)
    return target


def erase(root: Path, entry: str) -> None:
    """Delete an entry of the bin for good.

    Raises:
        DatasetError: there is no such entry.
        RunError: some of its files cannot be deleted.
    """
    source = _entry_folder(root, entry)
    doomed = source.with_name(f".erased-{source.name}")  # never again an entry, even if this process dies half-way
    move(source, doomed)
    _note(root, entry).unlink(missing_ok=True)
    for left in source.parent.glob(".erased-*"):
        shutil.rmtree(left, ignore_errors=True)
    if doomed.exists():
        raise cannot_write(doomed, OSError("some of its files cannot be deleted"))


def move(source: Path, target: Path) -> None:
    """Move a folder to a place that is free.

    Raises:
        DatasetError: something is at `target`.
        RunError: the folder cannot be moved: it is in use, or the disk refuses.
    """
    if target.exists() and not _same(source, target):
        raise DatasetError(f"{target}: there is something of this name; choose another name")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(target.parent, error) from error
    for last in [False] * (_TRIES - 1) + [True]:
        try:
            os.rename(source, target)
        except PermissionError as error:
            if last:
                raise cannot_write(source, error) from error
            time.sleep(_PAUSE)
        except OSError as error:
            raise cannot_write(source, error) from error
        else:
            return


def _same(source: Path, target: Path) -> bool:
    """One folder under two spellings, where the file system ignores case."""
    with contextlib.suppress(OSError):
        return target.samefile(source)
    return False


def _entry_folder(root: Path, entry: str) -> Path:
    folder = inside(root, f"{BIN}/{file_name(entry)}")
    if not _ENTRY.fullmatch(folder.name) or not folder.is_dir():
        raise DatasetError(f"{folder}: there is nothing of this name in the bin; refresh the list")
    return folder


def _new_entry(root: Path, leaf: str) -> str:
    stamp = datetime.now(timezone.utc).strftime(_STAMP)
    short = leaf[:80].rstrip(". ")  # the whole name is in the note
    tries = (f"{stamp}-{f'{n}.' if n else ''}{short}" for n in range(10_000))
    return next(name for name in tries if not (root / BIN / name).exists() and not _note(root, name).exists())


def _note(root: Path, entry: str) -> Path:
    return root / BIN / f"{entry}.json"


def _binned(root: Path, entry: str) -> Binned:
    stamp, _, leaf = _ENTRY.fullmatch(entry).groups()  # type: ignore[union-attr]
    try:
        deleted = datetime.strptime(stamp, _STAMP).replace(tzinfo=timezone.utc).isoformat().replace("+00:00", "Z")
    except ValueError:
        deleted = "1970-01-01T00:00:00Z"
    return Binned(entry, _called(root, entry) or leaf, deleted)


def _called(root: Path, entry: str) -> str | None:
    """As the note says, if it can be read and is a name."""
    try:
        name = json.loads(_note(root, entry).read_text(encoding="utf-8"))["name"]
        return "/".join(parts_of(name))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # ConfigError is a ValueError
        return None
