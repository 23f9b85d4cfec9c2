"""The layout with a table: `metadata.jsonl` or `metadata.csv`, and the rows of an extracted parquet file.

A row holds a prompt (`prompt`, `caption` or `text`), two pictures as paths inside the dataset folder
(`image_0`, `image_1`; also `jpg_0`, `jpg_1`) and who won (see `labels.py`).
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from ..exceptions import DatasetError
from .labels import LABEL_COLUMNS, Outcome, Row, RowError, filled, judge, names, short
from .listing import EXTRACTED, Listing, nfc, split_suffix
from .types import Candidate, Defect, DefectKind, Reading

PROMPT_COLUMNS = ("prompt", "caption", "text")
IMAGE_COLUMNS = (("image_0", "image_1"), ("jpg_0", "jpg_1"))

EXAMPLE = '{"prompt": "a cat", "image_0": "a.png", "image_1": "b.png", "preference": 0}'
_DRIVE_OR_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_MAX_LINE = 1 << 20

NumberedRow = tuple[int, Row | RowError]


class _OutsideFolderError(RowError):
    """A path that leaves the dataset folder."""


class _MissingFileError(RowError):
    """A path at which there is no picture."""


def rows_jsonl(path: Path, example: str = EXAMPLE) -> Iterator[NumberedRow]:
    """Each line of a JSON-lines file with its number, from 1; blank lines are skipped.

    Args:
        example: of a line, for the message about one that is none.

    Raises:
        DatasetError: the file cannot be read, or is UTF-16.
    """
    try:
        with open(path, "rb") as file:
            number = 0
            while raw := file.readline(_MAX_LINE):
                number += 1
                if number == 1 and raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
                    raise DatasetError(f"{path}: is UTF-16 text; save it as UTF-8")
                if len(raw) == _MAX_LINE and not raw.endswith(b"\n"):
                    raise DatasetError(f"{path}:{number}: is longer than a megabyte; write one pair on each line")
                line = raw.removeprefix(b"\xef\xbb\xbf").strip()
                if line:
                    yield number, _parse_json(line, example)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror or error})") from error


def check_columns(path: Path, columns: list[str]) -> None:
    """Raise DatasetError where the header of a table of pairs lacks a column."""
    needed = {
        "image_0 and image_1": any({*pair} <= {*columns} for pair in IMAGE_COLUMNS),
        "a preference (preference, label, label_0 or prefer_0)": any(c in columns for c in LABEL_COLUMNS),
    }
    missing = " and ".join(name for name, present in needed.items() if not present)
    if missing:
        raise DatasetError(f"{path}:1: the header lacks {missing}; found {', '.join(columns) or 'nothing'}")


def rows_csv(path: Path, check: Callable[[Path, list[str]], None] = check_columns) -> Iterator[NumberedRow]:
    """Each record of a table with a header line, and the number of the line it ends on.

    Commas, semicolons and tabs separate; the header says which.

    Args:
        check: raises where the file lacks a needed column.

    Raises:
        DatasetError: the file cannot be read or is not UTF-8.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            columns, delimiter = header_of(file)
            check(path, columns)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            while (values := _next_record(reader)) is not None:
                if isinstance(values, RowError):
                    yield reader.line_num + 1, values
                elif any(value.strip() for value in values):
                    yield reader.line_num + 1, _zip_row(columns, values)
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: is not UTF-8 text ({error.reason}); save it as 'CSV UTF-8'") from error
    except csv.Error as error:
        raise DatasetError(f"{path}:1: the header is not valid ({error}); look for an unclosed quote") from error
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror or error})") from error


def header_of(file: TextIO) -> tuple[list[str], str]:
    """The first line of a table. -> (column names, separator)"""
    line = file.readline(_MAX_LINE)
    delimiter = max(",;\t", key=line.count)
    return [name.strip() for name in next(csv.reader([line], delimiter=delimiter), [])], delimiter


def read_rows(listing: Listing, name: str, rows: Iterator[NumberedRow], *, unit: str = ":") -> Reading:
    """Turn the rows of the table `name` into candidates, ties and defects.

    `unit` joins name and row number in a defect's place: `metadata.jsonl:12`.
    """
    reading = Reading("metadata")
    unlabelled: list[str] = []
    for number, row in rows:
        where = f"{name}{unit}{number}"
        try:
            if isinstance(row, RowError):
                raise row
            outcome = judge(row)
            if outcome == "tie":
                reading.ties += 1
            elif outcome == "unlabelled":
                unlabelled.append(where)
            else:
                reading.candidates.append(_candidate(listing, where, row, outcome))
        except RowError as error:
            reading.defects.append(defect_of(error, where))
    if unlabelled:
        count = f"{len(unlabelled)} rows from here on have" if len(unlabelled) > 1 else "this row has"
        message = f"{count} no preference yet and stayed out; judge the pair, or remove the row"
        reading.defects.append(Defect("unlabelled", unlabelled[0], message, fatal=False))
    return reading


_KINDS: dict[type[RowError], DefectKind] = {_OutsideFolderError: "outside_folder", _MissingFileError: "missing_file"}


def defect_of(error: RowError, where: str) -> Defect:
    """A row's error, counted under its kind."""
    return Defect(_KINDS.get(type(error), "bad_metadata"), where, str(error))


def _candidate(listing: Listing, where: str, row: Row, outcome: Outcome) -> Candidate:
    columns = next((pair for pair in IMAGE_COLUMNS if pair[0] in row or pair[1] in row), None)
    if columns is None:
        raise RowError(f"names no pictures; add image_0 and image_1 (columns: {names(row)})")
    first, second = (resolve(listing, row, column) for column in columns)
    winner, loser = (first, second) if outcome == "0" else (second, first)
    prompt = prompt_of(row)
    captions = listing.captions_at(*(nfc(split_suffix(path)[0]) for path in (winner, loser)))
    key = ">".join(nfc(path).removeprefix(EXTRACTED) for path in (winner, loser))
    return Candidate(key, where, winner, loser, captions, prompt)


def prompt_of(row: Row) -> str:
    """The caption, or an empty string where there is none.

    Raises:
        RowError: it is not text.
    """
    prompt = next((row[column] for column in PROMPT_COLUMNS if filled(row, column)), "")
    if not isinstance(prompt, str):
        raise RowError(f"the prompt is {short(prompt)}; it must be text")
    return prompt


def resolve(listing: Listing, row: Row, column: str) -> str:
    """The listed picture that a path names. Only listed pictures count, so nothing outside can be reached.

    Raises:
        RowError: it names none.
    """
    raw = row.get(column)
    if not isinstance(raw, str) or not raw.strip():
        raise RowError(f"{column} is {short(raw)}; it must be the path of a picture inside the dataset folder")
    path = "/".join(part for part in nfc(raw.strip()).replace("\\", "/").split("/") if part != ".")
    if path in listing.image_of:
        return listing.image_of[path]
    folded = listing.image_of_folded.get(path.casefold(), [])
    if len(folded) == 1:
        return folded[0]
    if path.startswith("/") or _DRIVE_OR_URL.match(path) or ".." in path.split("/"):
        raise _OutsideFolderError(
            f"{column} is {short(raw)}, which leads out of the dataset folder; copy the picture into the folder "
            "and name it by a relative path"
        )
    raise _MissingFileError(f"{column}: there is no picture {short(raw)} here; check the spelling, or remove the row")


def _next_record(reader: Any) -> list[str] | RowError | None:
    try:
        return next(reader, None)
    except csv.Error as error:
        return RowError(f"is not a valid record ({error}); look for an unclosed quote")


def _zip_row(columns: list[str], values: list[str]) -> Row | RowError:
    if len(values) != len(columns):
        return RowError(f"{len(values)} values for {len(columns)} columns; put quotes around text with a separator")
    return dict(zip(columns, values, strict=True))


def _parse_json(line: bytes, example: str) -> Row | RowError:
    try:
        row = json.loads(line.decode())
    except UnicodeDecodeError:
        return RowError("is not UTF-8 text; save the file as UTF-8")
    except (ValueError, RecursionError) as error:
        return RowError(f"is not valid JSON ({error}); each line holds one object, such as {example}")
    if not isinstance(row, dict):
        return RowError(f"is {short(row)} instead of an object, such as {example}")
    return row
