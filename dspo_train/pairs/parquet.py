"""Parquet files with embedded pictures (Pick-a-Pic), extracted once so that the rest only knows paths.

Pictures go to `.dspo_cache/images/<sha256>.<type>`, labels and prompts to `.dspo_cache/tables/`, one JSON-lines
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

from ..exceptions import DatasetError
from .labels import LABEL_COLUMNS, Outcome, Row, RowError, filled, judge
from .listing import CACHE_FOLDER, EXTRACTED, Listing
from .tables import IMAGE_COLUMNS, PROMPT_COLUMNS, NumberedRow, read_rows, rows_jsonl
from .types import Reading

_TABLES = f"{CACHE_FOLDER}/tables"
_ROWS_AT_ONCE = 16
_MAGIC = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpg", b"RIFF": "webp"}


def read_parquet(listing: Listing, names: list[str]) -> Reading:
    """Read the given parquet files of a listing as one table.

    Raises:
        DatasetError: pyarrow is missing, a file is damaged or lacks a column, or the cache cannot be written.
    """
    indices = {name: _index_of(listing.root, name) for name in names}
    present = set(_extracted(listing.root))
    for name, index in indices.items():
        if not (index.exists() and _complete(index, present)):
            _extract(listing.root, name, index)
    everything = dataclasses.replace(listing, images=[*listing.images, *_extracted(listing.root)])
    total = Reading("metadata")
    for name, index in indices.items():
        reading = read_rows(everything, name, _rows(index), unit=":row ")
        total.candidates += reading.candidates
        total.ties += reading.ties
        total.defects += reading.defects
    return total


def _index_of(root: Path, name: str) -> Path:
    state = os.stat(root / name)
    mark = hashlib.sha256(f"{name}|{state.st_size}|{state.st_mtime_ns}".encode()).hexdigest()[:16]
    return root / _TABLES / f"{Path(name).stem[:80]}-{mark}.jsonl"


def _rows(index: Path) -> Iterator[NumberedRow]:
    for _, row in rows_jsonl(index):
        if not isinstance(row, RowError):
            problem = row.get("problem")
            yield int(row["row"]), RowError(problem) if problem else row


def _extracted(root: Path) -> list[str]:
    try:
        with os.scandir(root / EXTRACTED) as entries:
            return sorted(f"{EXTRACTED}{entry.name}" for entry in entries if entry.is_file(follow_symlinks=False))
    except FileNotFoundError:
        return []


def _complete(index: Path, present: set[str]) -> bool:
    """Whether every picture of the index is still there; a cleaned cache is filled again."""
    return all(
        not str(row.get(column, "")).startswith(EXTRACTED) or row[column] in present
        for _, row in rows_jsonl(index)
        if not isinstance(row, RowError)
        for column in IMAGE_COLUMNS[0]
    )


def _extract(root: Path, name: str, index: Path) -> None:
    temporary = index.with_suffix(f".{os.getpid()}.tmp")
    try:
        (root / EXTRACTED).mkdir(parents=True, exist_ok=True)
        index.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "w", encoding="utf-8") as file:
                for number, row in enumerate(_parquet_rows(root / name), 1):
                    file.write(json.dumps({"row": number, **_extract_row(root, row)}) + "\n")
            os.replace(temporary, index)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise DatasetError(
            f"{root / CACHE_FOLDER}: cannot extract the pictures of {name} ({error.strerror or error}); "
            "make room, or make the dataset folder writable"
        ) from error


def _parquet_rows(path: Path) -> Iterator[Row]:
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
            # Small batches: a row group of Pick-a-Pic holds hundreds of megabytes of pictures.
            for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=columns):
                yield from batch.to_pylist()
    except (arrow.ArrowException, ValueError, OSError) as error:
        reason = str(error).splitlines()[0][:200]
        raise DatasetError(f"{path}: cannot be read as parquet ({reason}); download it again") from error


def _image_columns(path: Path, found: list[str]) -> tuple[str, str]:
    for pair in reversed(IMAGE_COLUMNS):
        if {*pair} <= {*found}:
            return pair
    raise DatasetError(
        f"{path}: holds no pictures (columns: {', '.join(found[:20])}); jpg_0 and jpg_1 are needed, which the "
        "'no_images' variants of Pick-a-Pic lack"
    )


def _extract_row(root: Path, row: Row) -> dict[str, Any]:
    kept = {column: row[column] for column in (*LABEL_COLUMNS, "has_label") if column in row}
    kept["prompt"] = next((row[column] for column in PROMPT_COLUMNS if filled(row, column)), "")
    try:
        outcome: Outcome = judge(row)
        if outcome in ("0", "1"):
            pair = next(pair for pair in reversed(IMAGE_COLUMNS) if pair[0] in row)
            for column, source in zip(IMAGE_COLUMNS[0], pair, strict=True):
                kept[column] = _store(root, row[source], source)
    except RowError as error:
        return {"problem": str(error)}
    return kept


def _store(root: Path, picture: Any, column: str) -> str:
    """Write one embedded picture under its content's name; a path is passed on as it is."""
    if isinstance(picture, dict):  # the `Image` feature of Hugging Face datasets
        picture = picture.get("bytes") or picture.get("path")
    if isinstance(picture, str):
        return picture
    kind = next((kind for magic, kind in _MAGIC.items() if (picture or b"").startswith(magic)), None)
    if kind is None:
        raise RowError(f"{column} holds no PNG, JPEG or WebP picture")
    relative = f"{EXTRACTED}{hashlib.sha256(picture).hexdigest()[:40]}.{kind}"
    target = root / relative
    if not (target.exists() and target.stat().st_size == len(picture)):
        temporary = target.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_bytes(picture)
        os.replace(temporary, target)
    return relative
