"""Tables of pairs: `metadata.jsonl`, `metadata.csv`, and the rows of an extracted parquet file.

A row holds a prompt (`prompt`, `caption` or `text`), two images as paths inside the dataset folder
(`image_0`, `image_1`; also `jpg_0`, `jpg_1`) and who won (see `labels.py`). `source` may name the image that both
were made from; a value without an image suffix is a note on where the row comes from and is ignored. `doubt` may give
the share of the label that is believed wrong, from 0 to 0.5.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from ..exceptions import DatasetError
from ..images.formats import SUFFIXES
from .labels import LABEL_COLUMNS, RowError, RowOutcome, TableRow, as_json, column_names, doubt_of, filled, judge_row
from .listing import EXTRACTED, Listing, nfc, split_suffix, stem_of
from .readings import Candidate, LayoutReading, unusable_source
from .table_files import NotAnObjectError, NumberedRow, TableFile
from .types import Defect, DefectKind

PROMPT_COLUMNS = ("prompt", "caption", "text")
IMAGE_COLUMNS = (("image_0", "image_1"), ("jpg_0", "jpg_1"))
SOURCE_COLUMN = "source"

_EXAMPLE = '{"prompt": "a cat", "image_0": "a.png", "image_1": "b.png", "preference": 0}'
_DRIVE_OR_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


class _OutsideFolderError(RowError):
    """A path that leaves the dataset folder."""


class _MissingFileError(RowError):
    """A path at which there is no image."""


def read_table(listing: Listing, name: str, table: TableFile) -> LayoutReading:
    """The pairs of a `.jsonl` or `.csv` table.

    Raises:
        DatasetError: it cannot be read, or the header of a CSV lacks a column.
    """
    if table.is_csv:
        _check_columns(table)
    return read_rows(listing, name, table.rows())


def read_rows(listing: Listing, name: str, rows: Iterator[NumberedRow], *, unit: str = ":") -> LayoutReading:
    """Turn the rows of the table `name` into candidates, ties and defects.

    `unit` joins name and row number in a defect's place: `metadata.jsonl:12`.
    """
    reading = LayoutReading("metadata", used={name})
    unlabelled: list[str] = []
    for number, row in rows:
        where = f"{name}{unit}{number}"
        try:
            if isinstance(row, RowError):
                raise row
            reading.used |= named_images(listing, row, *IMAGE_COLUMNS[0], *IMAGE_COLUMNS[1], SOURCE_COLUMN)
            outcome = judge_row(row)
            if outcome == "tie":
                reading.ties += 1
            elif outcome == "unlabelled":
                unlabelled.append(where)
            else:
                reading.pairs.append(_candidate(listing, where, row, outcome, reading.defects))
        except RowError as error:
            reading.defects.append(defect_of(error, where, _EXAMPLE))
    if unlabelled:
        message = f"{rows_from_here(unlabelled)} no preference yet; judge the pair, or remove the row"
        reading.defects.append(Defect("unlabelled", unlabelled[0], message, fatal=False))
    return reading


def rows_from_here(places: list[str]) -> str:
    """The subject of a warning about several rows that is placed at the first of them, with its verb."""
    return "this row has" if len(places) == 1 else f"{len(places)} rows from here on have"


_KINDS: dict[type[RowError], DefectKind] = {_OutsideFolderError: "outside_folder", _MissingFileError: "missing_file"}


def defect_of(error: RowError, where: str, example: str) -> Defect:
    """A row's error as a defect; `example` is a valid line, shown where the row is not an object."""
    shown = f"{error}, such as {example}" if isinstance(error, NotAnObjectError) else str(error)
    return Defect(_KINDS.get(type(error), "bad_metadata"), where, shown)


def prompt_of(row: TableRow) -> str:
    """The caption, or an empty string where there is none.

    Raises:
        RowError: it is not text.
    """
    prompt = next((row[column] for column in PROMPT_COLUMNS if filled(row, column)), "")
    if not isinstance(prompt, str):
        raise RowError(f"the prompt is {as_json(prompt)}; it must be text")
    return prompt


def find_image(listing: Listing, row: TableRow, column: str) -> str:
    """The listed image that a path names. Only listed images count, so nothing outside can be reached.

    Raises:
        RowError: it names none.
    """
    raw = row.get(column)
    if not isinstance(raw, str) or not raw.strip():
        raise RowError(f"{column} is {as_json(raw)}; it must be the path of an image inside the dataset folder")
    path = "/".join(part for part in nfc(raw.strip()).replace("\\", "/").split("/") if part != ".")
    if path in listing.image_of:
        return listing.image_of[path]
    folded = listing.image_of_folded.get(path.casefold(), [])
    if len(folded) == 1:
        return folded[0]
    if path.startswith("/") or _DRIVE_OR_URL.match(path) or ".." in path.split("/"):
        raise _OutsideFolderError(
            f"{column} is {as_json(raw)}, which leads out of the dataset folder; copy the image into the folder and "
            "name it by a relative path"
        )
    raise _MissingFileError(f"{column}: there is no image {as_json(raw)} here; check the spelling, or remove the row")


def named_images(listing: Listing, row: TableRow, *columns: str) -> set[str]:
    """The listed images that a row names in these columns, whatever else is wrong with it."""
    found: set[str] = set()
    for column in row.keys() & set(columns):
        with contextlib.suppress(RowError):
            found.add(find_image(listing, row, column))
    return found


def _check_columns(table: TableFile) -> None:
    columns = table.header()
    needed = {
        "image_0 and image_1": any({*pair} <= {*columns} for pair in IMAGE_COLUMNS),
        "a preference (preference, label, label_0 or prefer_0)": any(c in columns for c in LABEL_COLUMNS),
    }
    missing = " and ".join(name for name, present in needed.items() if not present)
    if missing:
        raise DatasetError(f"{table.path}:1: the header lacks {missing}; found {', '.join(columns) or 'nothing'}")


def _candidate(listing: Listing, where: str, row: TableRow, outcome: RowOutcome, defects: list[Defect]) -> Candidate:
    columns = next((pair for pair in IMAGE_COLUMNS if pair[0] in row or pair[1] in row), None)
    if columns is None:
        raise RowError(f"names no images; add image_0 and image_1 (columns: {column_names(row)})")
    first, second = (find_image(listing, row, column) for column in columns)
    winner, loser = (first, second) if outcome == "0" else (second, first)
    prompt = prompt_of(row)
    captions = listing.captions_at(stem_of(winner), stem_of(loser))
    key = ">".join(nfc(path).removeprefix(EXTRACTED) for path in (winner, loser))
    source = _source_of(listing, where, row, defects)
    return Candidate(key, where, winner, loser, captions, prompt, source, doubt_of(row))


def _source_of(listing: Listing, where: str, row: TableRow, defects: list[Defect]) -> str:
    """The image in the column `source`, or an empty string; one that is not there is a warning."""
    value = row.get(SOURCE_COLUMN)
    if not isinstance(value, str) or split_suffix(value.strip())[1] not in SUFFIXES:
        return ""
    try:
        return find_image(listing, row, SOURCE_COLUMN)
    except RowError as error:
        defects.append(unusable_source(where, str(error)))
        return ""
