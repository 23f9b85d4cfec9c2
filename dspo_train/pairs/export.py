"""A judged set as an ordinary folder of pairs, to share or for other trainers."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from .. import files
from ..exceptions import DatasetError
from ..preferences.store import PreferenceStore
from ..preferences.types import Opinion
from .collected import one_line
from .types import Scan

ExportLayout = Literal["suffix", "subfolders", "ranked", "jsonl", "csv", "opinions"]

_COLUMNS = ("prompt", "image_0", "image_1", "preference")


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written: pairs with a winner, ties (tables only), image files."""

    pairs: int
    ties: int
    images: int


@dataclass(frozen=True, slots=True)
class _Pair:
    prompt: str
    first: Path
    second: Path
    preference: Literal[0, 1, "tie"]
    source: Path | None = None

    @property
    def best_first(self) -> tuple[Path, Path]:
        return (self.second, self.first) if self.preference == 1 else (self.first, self.second)

    @property
    def files(self) -> list[Path]:
        return [self.first, self.second, *([self.source] if self.source else [])]


def export(source: PreferenceStore | Scan, target: Path, layout: ExportLayout) -> ExportReport:
    """Copy what was judged into a new folder that `scan_pairs` and other programs read.

    `suffix` writes `00001_w.png`, `00001_l.png`, `00001.txt`; `subfolders` writes `chosen/`, `rejected/` with the
    caption beside the winner; `ranked` writes each pair as a set of two, `00001_0.png` the better; `jsonl` and `csv`
    write `metadata.*` and each image once, below `images/`. Only the tables can hold ties, and a scan has none to give.
    `opinions` writes single images, `liked/` and `disliked/` with their captions, where some were called bad; only
    these hold pairs of which both are bad. Source images are written as `scan_pairs` reads them. Prompts are written
    on one line.

    Raises:
        DatasetError: `target` is not empty, there is nothing to export, or an image is missing.
        RunError: the folder cannot be written, or the disk is full.
    """
    if layout not in get_args(ExportLayout):
        raise DatasetError(f"there is no layout {layout!r} to export to; choose one of {', '.join(_WRITE)}")
    if layout == "opinions":
        return _export_opinions(source, target)
    pairs = list(_from_store(source) if isinstance(source, PreferenceStore) else _from_scan(source))
    if layout in ("suffix", "subfolders", "ranked"):
        pairs = [pair for pair in pairs if pair.preference != "tie"]
    if not pairs:
        raise DatasetError(f"{source.folder}: holds nothing to export as {layout}; judge some pairs first")
    for pair in pairs:
        names = f"the pair {pair.first.name} and {pair.second.name}"
        _check_files(pair.files, f"{names} ({pair.prompt[:60]!r})")
    copy = _Copier(target)
    _write_whole(copy, lambda: _WRITE[layout](pairs, copy))
    ties = sum(pair.preference == "tie" for pair in pairs)
    return ExportReport(len(pairs) - ties, ties, copy.count)


def _export_opinions(source: PreferenceStore | Scan, target: Path) -> ExportReport:
    opinions = source.opinions() if isinstance(source, PreferenceStore) else []
    if not opinions:
        raise DatasetError(f"{source.folder}: holds nothing to export as opinions; mark some images as bad first")
    for it in opinions:
        _check_files([source.folder / it.image], f"the prompt {it.prompt[:60]!r}")
    copy = _Copier(target)
    _write_whole(copy, lambda: _write_opinions(source.folder, opinions, copy))
    return ExportReport(0, 0, copy.count)


def _check_files(images: Iterable[Path], whose: str) -> None:
    for image in images:
        if not image.is_file():
            raise DatasetError(
                f"{image}: this image of {whose} is missing, so nothing was exported; put it back, or remove it from "
                "the set"
            )


def _write_whole(copy: _Copier, write: Callable[[], None]) -> None:
    """
    Raises:
        DatasetError: the folder is not empty.
        RunError: it cannot be written; what was written of it is deleted.
    """
    target = copy.target
    try:
        if target.exists() and any(target.iterdir()):
            raise DatasetError(f"{target}: is not empty; export to a new folder, so that nothing gets mixed up")
        try:
            write()
        except BaseException:  # half an export looks like a whole one
            shutil.rmtree(target, ignore_errors=True)
            raise
    except OSError as error:
        raise files.cannot_write(target, error) from error


def _from_store(store: PreferenceStore) -> Iterable[_Pair]:
    for it in store.judged(ties=True):
        if it.vote.outcome == "bad":
            continue
        first, second = (store.folder / name for name in it.images)
        yield _Pair(
            one_line(it.prompt), first, second, "tie" if it.winner is None else 0 if it.loser == it.images[1] else 1
        )


def _from_scan(scan: Scan) -> Iterable[_Pair]:
    for pair in scan.pairs:
        yield _Pair(one_line(pair.prompt), pair.winner, pair.loser, 0, pair.source)


class _Copier:
    """Copies images into the target folder and counts them."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.count = 0

    def __call__(self, image: Path, name: str) -> None:
        """Copy an image to `name` below the target folder, which has no suffix; the image's own is added."""
        path = self.target / f"{name}{image.suffix.lower()}"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(image, path)
        self.count += 1


def _write_suffix(pairs: list[_Pair], copy: _Copier, sides: str = "wl") -> None:
    for stem, pair in _numbered(pairs):
        for image, side in zip(pair.best_first, sides, strict=True):
            copy(image, f"{stem}_{side}")
        if pair.source:
            copy(pair.source, f"{stem}_source")
        _caption(copy.target / f"{stem}.txt", pair.prompt)


def _write_subfolders(pairs: list[_Pair], copy: _Copier) -> None:
    for stem, pair in _numbered(pairs):
        for image, side in zip(pair.best_first, ("chosen", "rejected"), strict=True):
            copy(image, f"{side}/{stem}")
        if pair.source:
            copy(pair.source, f"source/{stem}")
        _caption(copy.target / f"chosen/{stem}.txt", pair.prompt)


def _write_jsonl(pairs: list[_Pair], copy: _Copier) -> None:
    lines = [json.dumps(row, ensure_ascii=False) for row in _rows(pairs, copy)]
    files.write_text(copy.target / "metadata.jsonl", "\n".join(lines) + "\n")


def _write_csv(pairs: list[_Pair], copy: _Copier) -> None:
    text, rows = io.StringIO(newline=""), _rows(pairs, copy)
    csv.writer(text).writerows([rows[0].keys(), *(row.values() for row in rows)])
    files.write_text(copy.target / "metadata.csv", text.getvalue())


def _write_opinions(folder: Path, opinions: Iterable[Opinion], copy: _Copier) -> None:
    for number, it in enumerate(opinions, 1):
        name = f"{'liked' if it.liked else 'disliked'}/{number:05d}"
        copy(folder / it.image, name)
        _caption(copy.target / f"{name}.txt", one_line(it.prompt))


_WRITE: dict[ExportLayout, Callable[[list[_Pair], _Copier], None]] = {
    "suffix": _write_suffix,
    "subfolders": _write_subfolders,
    "ranked": partial(_write_suffix, sides="01"),
    "jsonl": _write_jsonl,
    "csv": _write_csv,
}


def _rows(pairs: list[_Pair], copy: _Copier) -> list[dict[str, Any]]:
    """Table rows; each image is copied when it is first named. The table itself comes last, when all are there."""
    names: dict[Path, str] = {}
    columns = (*_COLUMNS, *(["source"] if any(pair.source for pair in pairs) else []))
    rows = []
    for pair in pairs:
        for image in pair.files:
            if image not in names:
                stem = f"images/{len(names) + 1:05d}"
                names[image] = f"{stem}{image.suffix.lower()}"
                copy(image, stem)
        source = names[pair.source] if pair.source else ""
        values = (pair.prompt, names[pair.first], names[pair.second], pair.preference, source)
        rows.append(dict(zip(columns, values, strict=False)))
    return rows


def _numbered(pairs: list[_Pair]) -> Iterable[tuple[str, _Pair]]:
    return ((f"{number:05d}", pair) for number, pair in enumerate(pairs, 1))


def _caption(path: Path, prompt: str) -> None:
    if prompt:  # without a file, the prompt is read from the image's own metadata
        path.write_text(prompt + "\n", encoding="utf-8", newline="\n")
