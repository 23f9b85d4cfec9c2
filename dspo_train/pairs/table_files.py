"""The rows of a `.jsonl` or `.csv` file, numbered by line."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from ..exceptions import DatasetError
from .labels import RowError, TableRow, as_json

_MAX_LINE = 1 << 20

NumberedRow = tuple[int, TableRow | RowError]


class NotAnObjectError(RowError):
    """A line of a JSON-lines file that holds something else."""


class TableFile:
    """A table that is opened once and read in one pass; its columns can be asked for before its rows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_csv = path.suffix.lower() == ".csv"
        self._rest = _rows_csv(path) if self.is_csv else rows_jsonl(path)
        self._early: list[NumberedRow] = []
        self._error: DatasetError | None = None

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Of the header, or of the first object; none where the file cannot be read."""
        try:
            for number, row in self._rest:
                self._early.append((number, row))
                if not isinstance(row, RowError):
                    return tuple(row)
        except DatasetError as error:
            self._error = error
        return ()

    def header(self) -> tuple[str, ...]:
        """The columns.

        Raises:
            DatasetError: the file cannot be read, or is not UTF-8.
        """
        columns = self.columns
        if self._error:
            raise self._error
        return columns

    def rows(self) -> Iterator[NumberedRow]:
        """Each object or record with its line number, from 1; they can be taken once.

        Raises:
            DatasetError: see `header`.
        """
        self.header()
        yield from self._early[1:] if self.is_csv else self._early
        yield from self._rest


def rows_jsonl(path: Path) -> Iterator[NumberedRow]:
    """Each line of a JSON-lines file with its number, from 1; blank lines are skipped.

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
                    raise DatasetError(f"{path}:{number}: is longer than a megabyte; write one row on each line")
                line = raw.removeprefix(b"\xef\xbb\xbf").strip()
                if line:
                    yield number, _parse_json(line)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror or error})") from error


def _rows_csv(path: Path) -> Iterator[NumberedRow]:
    """The header as a row without values, then each record with the number of the line it ends on.

    Commas, semicolons and tabs separate; the header says which.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            line = file.readline(_MAX_LINE)
            delimiter = max(",;\t", key=line.count)
            columns = [name.strip() for name in next(csv.reader([line], delimiter=delimiter), [])]
            yield 1, dict.fromkeys(columns)
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


def _next_record(reader: Any) -> list[str] | RowError | None:
    try:
        return next(reader, None)
    except csv.Error as error:
        return RowError(f"is not a valid record ({error}); look for an unclosed quote")


def _zip_row(columns: list[str], values: list[str]) -> TableRow | RowError:
    if len(values) != len(columns):
        return RowError(f"{len(values)} values for {len(columns)} columns; put quotes around text with a separator")
    return dict(zip(columns, values, strict=True))


def _parse_json(line: bytes) -> TableRow | RowError:
    try:
        row = json.loads(line.decode())
    except UnicodeDecodeError:
        return RowError("is not UTF-8 text; save the file as UTF-8")
    except (ValueError, RecursionError) as error:
        return NotAnObjectError(f"is not valid JSON ({error}); each line holds one object")
    if not isinstance(row, dict):
        return NotAnObjectError(f"is {as_json(row)} instead of an object")
    return row
