"""Tables that name one image in each row, and whether it was liked.

file        the image, inside the dataset folder; also `file_name` (Hugging Face), `file_path` (Diffusion-KTO),
            `image`, `path`
caption     also `prompt`, `text`; where it is empty, the prompt is looked for as in folders
label       true, 1, +1 or liked against false, 0, -1 or disliked; Diffusion-KTO's exclusive_win and exclusive_lose;
            the column may also be called `liked`
"""

from __future__ import annotations

from collections.abc import Collection

from ..exceptions import DatasetError
from . import tables
from .labels import RowError, TableRow, as_json, as_number, column_names, filled
from .listing import Listing
from .table_files import TableFile

FILE_COLUMNS = ("file", "file_name", "file_path", "image", "path")
_LABEL_COLUMNS = ("label", "liked")
RATING_TABLES = ("opinions.jsonl", "opinions.csv")
CAPTION_TABLES = ("metadata.jsonl", "metadata.csv")
EXAMPLE = '{"file": "a.png", "caption": "a cat", "label": 1}'

_LIKED_WORDS = ("true", "liked", "like", "good", "yes", "win", "exclusive_win")
_DISLIKED_WORDS = ("false", "disliked", "dislike", "bad", "no", "lose", "exclusive_lose")
_WORDS = {**dict.fromkeys(_LIKED_WORDS, 1.0), **dict.fromkeys(_DISLIKED_WORDS, 0.0)}
_LIKED = {1.0: True, 0.0: False, -1.0: False}
_PAIR_COLUMNS = frozenset(column for columns in tables.IMAGE_COLUMNS for column in columns)


def names_single_images(columns: Collection[str]) -> bool:
    """Whether a row names one image, not the two of a pair."""
    return _PAIR_COLUMNS.isdisjoint(columns) and any(column in columns for column in FILE_COLUMNS)


def has_labels(columns: Collection[str]) -> bool:
    return any(column in columns for column in _LABEL_COLUMNS)


def check_columns(table: TableFile) -> None:
    """Refuse a CSV whose header names no image.

    Raises:
        DatasetError: such a header, or a table that cannot be read.
    """
    columns = table.header()
    if table.is_csv and not names_single_images(columns):
        found = ", ".join(columns) or "nothing"
        raise DatasetError(f"{table.path}:1: the header lacks 'file', the image of a row; found {found}")


def image_of(listing: Listing, row: TableRow, folder: str = "") -> str:
    """The listed image that a row names; its path starts in `folder`, empty or with a final `/`.

    Raises:
        RowError: no such column or image.
    """
    column = next((column for column in FILE_COLUMNS if column in row), None)
    if column is None:
        raise RowError(f"names no image; add a column 'file' (columns: {column_names(row)})")
    value = row[column]
    inside = {column: folder + value} if folder and isinstance(value, str) and value.strip() else row
    return tables.find_image(listing, inside, column)


def liked_by(row: TableRow) -> bool | None:
    """What the row says, or None where it says nothing.

    Raises:
        RowError: a label that is neither, or two that disagree.
    """
    labels = {column: _label(row, column) for column in _LABEL_COLUMNS if filled(row, column)}
    if len(set(labels.values())) > 1:
        values = ", ".join(f"{column} = {as_json(row[column])}" for column in labels)
        raise RowError(f"its columns disagree ({values}); keep one of them, or correct them")
    return next(iter(labels.values()), None)


def _label(row: TableRow, column: str) -> bool:
    number = as_number(row[column], _WORDS)
    if number not in _LIKED:
        raise RowError(
            f"{column} is {as_json(row[column])}; it must be true, 1 or liked, or else false, 0, -1 or disliked"
        )
    return _LIKED[number]
