"""Tables that name one picture a row, and what somebody thought of it.

file        the picture, inside the dataset folder; also `file_name` (Hugging Face), `file_path` (Diffusion-KTO),
            `image`, `path`
caption     also `prompt`, `text`; where it is empty, the prompt is sought as in folders
label       true, 1, +1 or liked against false, 0, -1 or disliked; Diffusion-KTO's exclusive_win and exclusive_lose;
            the column may also be called `liked`
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from ..exceptions import DatasetError
from . import tables
from .labels import Row, RowError, as_number, filled, names, short
from .listing import Listing
from .tables import IMAGE_COLUMNS, NumberedRow

FILE_COLUMNS = ("file", "file_name", "file_path", "image", "path")
LABEL_COLUMNS = ("label", "liked")
OPINION_TABLES = ("opinions.jsonl", "opinions.csv")
CAPTION_TABLES = ("metadata.jsonl", "metadata.csv")

_EXAMPLE = '{"file": "a.png", "caption": "a cat", "label": 1}'
_LIKED_WORDS = ("true", "liked", "like", "good", "yes", "win", "exclusive_win")
_DISLIKED_WORDS = ("false", "disliked", "dislike", "bad", "no", "lose", "exclusive_lose")
_WORDS = {**dict.fromkeys(_LIKED_WORDS, 1.0), **dict.fromkeys(_DISLIKED_WORDS, 0.0)}
_LIKED = {1.0: True, 0.0: False, -1.0: False}
_PAIR_COLUMNS = frozenset(column for columns in IMAGE_COLUMNS for column in columns)


def top_tables(listing: Listing, wanted: tuple[str, ...]) -> list[str]:
    """The tables of these names that lie directly in the folder, spelled as on disk, in the order wanted."""
    top = {name.lower(): name for name in reversed(listing.tables) if "/" not in name}
    return [top[name] for name in wanted if name in top]


def columns_of(listing: Listing, name: str) -> frozenset[str]:
    """The columns of a table's header or first object; none where it cannot be read, which its reader will say."""
    path = listing.root / name
    try:
        if name.lower().endswith(".csv"):
            with open(path, encoding="utf-8-sig", newline="") as file:
                return frozenset(tables.header_of(file)[0])
        first = next((row for _, row in tables.rows_jsonl(path) if not isinstance(row, RowError)), {})
        return frozenset(first)
    except (DatasetError, OSError, UnicodeDecodeError, csv.Error):
        return frozenset()


def names_single_pictures(columns: frozenset[str]) -> bool:
    """Does a row name one picture, not the two of a pair?"""
    return not columns & _PAIR_COLUMNS and not columns.isdisjoint(FILE_COLUMNS)


def read_rows(listing: Listing, name: str) -> Iterator[NumberedRow]:
    """The rows of a `.jsonl` or `.csv` table with their line numbers.

    Raises:
        DatasetError: the table cannot be read, or a CSV's header names no picture.
    """
    path = listing.root / name
    if name.lower().endswith(".csv"):
        return tables.rows_csv(path, _check_columns)
    return tables.rows_jsonl(path, _EXAMPLE)


def picture_of(listing: Listing, row: Row, folder: str = "") -> str:
    """The listed picture that a row names; its path starts in `folder`, empty or with a final `/`.

    Raises:
        RowError: no such column or picture.
    """
    column = next((column for column in FILE_COLUMNS if column in row), None)
    if column is None:
        raise RowError(f"names no picture; add a column 'file' (columns: {names(row)})")
    value = row[column]
    inside = {column: folder + value} if folder and isinstance(value, str) and value.strip() else row
    return tables.resolve(listing, inside, column)


def liked_by(row: Row) -> bool | None:
    """What the row says, or None where it says nothing.

    Raises:
        RowError: a label that is neither, or two that disagree.
    """
    told = {column: _label(row, column) for column in LABEL_COLUMNS if filled(row, column)}
    if len(set(told.values())) > 1:
        values = ", ".join(f"{column} = {short(row[column])}" for column in told)
        raise RowError(f"its columns disagree ({values}); leave one of them, or mend them")
    return next(iter(told.values()), None)


def _label(row: Row, column: str) -> bool:
    number = as_number(row[column], _WORDS)
    if number not in _LIKED:
        raise RowError(
            f"{column} is {short(row[column])}; it must be true, 1 or liked, or else false, 0, -1 or disliked"
        )
    return _LIKED[number]


def _check_columns(path: Path, columns: list[str]) -> None:
    if not names_single_pictures(frozenset(columns)):
        found = ", ".join(columns) or "nothing"
        raise DatasetError(f"{path}:1: the header lacks 'file', the picture of a row; found {found}")
