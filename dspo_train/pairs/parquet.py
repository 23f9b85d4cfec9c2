"""Parquet files with embedded images (Pick-a-Pic), extracted once, so that the rest of the scan only deals with paths.

Images go to `.dspo_cache/images/<sha256>.<type>`, labels and prompts to `.dspo_cache/tables/`, one JSON-lines
index for each state of a parquet file. A second scan reads the index and never opens the parquet file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import files
from ..exceptions import DatasetError, RunError
from ..images.formats import kind_of
from .labels import LABEL_COLUMNS, RowError, RowOutcome, TableRow, filled, judge_row
from .listing import CACHE_FOLDER, EXTRACTED, Listing
from .readings import LayoutReading
from .table_files import NumberedRow, rows_jsonl
from .tables import IMAGE_COLUMNS, PROMPT_COLUMNS, read_rows

_TABLES = f"{CACHE_FOLDER}/tables"
_ROWS_AT_ONCE = 16


class _StaleIndexError(DatasetError):
    """The parquet file has no index in its present state, or an image in the index was deleted from the cache."""


def read_parquet(listing: Listing, names: list[str]) -> LayoutReading:
    """Read the given parquet files of a listing as one table.

    Raises:
        DatasetError: pyarrow is missing, a file is damaged or lacks a column, or the cache cannot be written.
    """
    total = LayoutReading("metadata")
    images = _with_extracted(listing)
    for name in names:
        index = _index_of(listing.root, name)
        try:
            reading = read_rows(images, name, _rows(index, images), unit=":row ")
        except _StaleIndexError:
            _extract(listing.root, name, index)
            images = _with_extracted(listing)
            reading = read_rows(images, name, _rows(index, images), unit=":row ")
        total.pairs += reading.pairs
        total.ties += reading.ties
        total.defects += reading.defects
        total.used |= reading.used
    return total


def _index_of(root: Path, name: str) -> Path:
    state = os.stat(root / name)
    mark = hashlib.sha256(f"{name}|{state.st_size}|{state.st_mtime_ns}".encode()).hexdigest()[:16]
    return root / _TABLES / f"{Path(name).stem[:80]}-{mark}.jsonl"


def _rows(index: Path, images: Listing) -> Iterator[NumberedRow]:
    """The rows of an index, numbered as in the parquet file.

    Raises:
        _StaleIndexError: the parquet file has to be extracted.
    """
    stale = _StaleIndexError(f"{index}: the images that it names were deleted during the scan; scan again")
    if not index.exists():
        raise stale
    for _, row in rows_jsonl(index):
        if isinstance(row, RowError):
            continue
        paths = [str(row.get(column, "")) for column in IMAGE_COLUMNS[0]]
        if any(path.startswith(EXTRACTED) and path not in images.image_of for path in paths):
            raise stale
        problem = row.get("problem")
        yield int(row["row"]), RowError(problem) if problem else row


def _with_extracted(listing: Listing) -> Listing:
    """The listing with the images in the cache, which it otherwise leaves out."""
    try:
        with os.scandir(listing.root / EXTRACTED) as entries:
            names = sorted(entry.name for entry in entries if entry.is_file(follow_symlinks=False))
    except FileNotFoundError:
        names = []
    return dataclasses.replace(listing, images=[*listing.images, *(f"{EXTRACTED}{name}" for name in names)])


def _extract(root: Path, name: str, index: Path) -> None:
    lines = (
        json.dumps({"row": number, **_extract_row(root, row)}).encode() + b"\n"
        for number, row in enumerate(_parquet_rows(root / name), 1)
    )
    try:
        files.write_chunks(index, lines)
    except RunError as error:
        cause = error.__cause__
        reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else error
        raise DatasetError(
            f"{root / CACHE_FOLDER}: cannot extract the images of {name} ({reason}); free some space, or make the "
            "dataset folder writable"
        ) from error


def _parquet_rows(path: Path) -> Iterator[TableRow]:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise DatasetError(
            f"{path}: reading parquet needs pyarrow, which is not installed; run 'pip install pyarrow'"
        ) from error
    try:
        with parquet.ParquetFile(path) as file:
            found = file.schema_arrow.names
            columns = [c for c in (*PROMPT_COLUMNS, *LABEL_COLUMNS, "has_label") if c in found]
            columns += _image_columns(path, found)
            # Small batches: a row group of Pick-a-Pic holds hundreds of megabytes of images.
            for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=columns):
                yield from batch.to_pylist()
    except DatasetError:  # a ValueError too, whose message is complete
        raise
    except (arrow.ArrowException, ValueError, OSError) as error:
        reason = str(error).splitlines()[0][:200]
        raise DatasetError(f"{path}: cannot be read as parquet ({reason}); download it again") from error


def _image_columns(path: Path, found: list[str]) -> tuple[str, str]:
    for pair in reversed(IMAGE_COLUMNS):
        if {*pair} <= {*found}:
            return pair
    raise DatasetError(
        f"{path}: holds no images (columns: {', '.join(found[:20])}); jpg_0 and jpg_1 are needed, which the "
        "'no_images' variants of Pick-a-Pic lack"
    )


def _extract_row(root: Path, row: TableRow) -> dict[str, Any]:
    kept = {column: row[column] for column in (*LABEL_COLUMNS, "has_label") if column in row}
    kept["prompt"] = next((row[column] for column in PROMPT_COLUMNS if filled(row, column)), "")
    try:
        outcome: RowOutcome = judge_row(row)
        if outcome in ("0", "1"):
            pair = next(pair for pair in reversed(IMAGE_COLUMNS) if pair[0] in row)
            for column, source in zip(IMAGE_COLUMNS[0], pair, strict=True):
                kept[column] = _store(root, row[source], source)
    except RowError as error:
        return {"problem": str(error)}
    return kept


def _store(root: Path, image: Any, column: str) -> str:
    """Write one embedded image under its content's name; a path is passed on as it is."""
    if isinstance(image, dict):  # the `Image` feature of Hugging Face datasets
        image = image.get("bytes") or image.get("path")
    if isinstance(image, str):
        return image
    kind = kind_of(image or b"")
    if kind is None:
        raise RowError(f"{column} holds no PNG, JPEG or WebP image")
    relative = f"{EXTRACTED}{hashlib.sha256(image).hexdigest()[:40]}.{kind}"
    target = root / relative
    if not (target.exists() and target.stat().st_size == len(image)):
        files.write_bytes(target, image)
    return relative
