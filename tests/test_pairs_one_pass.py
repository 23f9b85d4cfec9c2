"""A scan reads everything once: folder listings, headers and pixels of images, captions, tables, the log of votes."""

import builtins
import io
import json
import os
import pathlib
import sys
from collections import Counter
from pathlib import Path

import pytest
from test_pairs import fill
from test_preferences import png

from dspo_train.pairs import checks, image_metadata, parquet, scan_folder, scan_pairs
from dspo_train.preferences import NewImage, PreferenceStore, state

PAIR = {"image_0": "a.png", "image_1": "b.png", "prompt": "x", "preference": 0}
PAIR_CSV = "image_0,image_1,text,label\na.png,b.png,x,0"
RATED_CSV = "file,text,label\na.png,x,1\nb.png,y,0"
RATED_JSONL = '{"file": "a.png", "text": "x", "label": 1}\n{"file": "b.png", "text": "y", "label": 0}'
LAYOUTS = {
    "metadata.jsonl": ("metadata", {"a.png": 1, "b.png": 2, "metadata.jsonl": json.dumps(PAIR)}),
    "metadata.csv": ("metadata", {"a.png": 1, "b.png": 2, "metadata.csv": PAIR_CSV}),
    "subfolders": ("subfolders", {"chosen/a.png": 1, "rejected/a.png": 2, "source/a.png": 3, "chosen/a.txt": "x"}),
    "suffixes": ("suffixes", {"s/a_w.png": 1, "s/a_l.png": 2, "s/a_source.png": 3, "s/a.txt": "x"}),
    "ranked": ("ranked", {"a_0.png": 1, "a_1.png": 2, "a_2.png": 3, "a_3.jpg": 4, "a.txt": "x"}),
    "opinions.jsonl": ("table", {"a.png": 1, "b.png": 2, "opinions.jsonl": RATED_JSONL}),
    "opinions.csv": ("table", {"a.png": 1, "b.png": 2, "opinions.csv": RATED_CSV}),
    "labelled metadata": ("table", {"a.png": 1, "b.png": 2, "metadata.csv": RATED_CSV}),
    "folders": ("folders", {"liked/a.png": 1, "disliked/b.png": 2, "liked/a.txt": "x", "disliked/b.txt": "y"}),
    "folders with tables of captions": (
        "folders",
        {
            "liked/a.png": 1,
            "disliked/b.png": 2,
            "metadata.jsonl": '{"file": "liked/a.png", "text": "x"}',
            "disliked/metadata.csv": "file,text\nb.png,y",
        },
    ),
}


class Counted:
    """How often each file below a folder was opened, and each folder listed."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.files: Counter[str] = Counter()
        self.folders: Counter[str] = Counter()
        real_open, real_scandir = open, os.scandir

        def counting_open(file, *args, **kwargs):
            self._count(self.files, root, file)
            return real_open(file, *args, **kwargs)

        def counting_scandir(path):
            self._count(self.folders, root, path)
            return real_scandir(path)

        for module in (builtins, io):  # pathlib opens through the second
            monkeypatch.setattr(module, "open", counting_open)
        monkeypatch.setattr(os, "scandir", counting_scandir)
        if sys.version_info < (3, 11):  # there pathlib keeps the function itself
            monkeypatch.setattr(pathlib._NormalAccessor, "open", staticmethod(counting_open))  # type: ignore[attr-defined]

    @staticmethod
    def _count(counter: Counter[str], root: Path, path) -> None:
        if isinstance(path, (str, Path)) and Path(path).is_relative_to(root):
            counter[Path(path).relative_to(root).as_posix()] += 1


def files_below(folder: Path) -> dict[str, int]:
    return {path.relative_to(folder).as_posix(): 1 for path in folder.rglob("*") if path.is_file()}


def folders_below(folder: Path) -> dict[str, int]:
    return {path.relative_to(folder).as_posix(): 1 for path in (folder, *folder.rglob("*")) if path.is_dir()}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_file_is_opened_once_and_every_folder_listed_once(tmp_path, monkeypatch, name):
    layout, files = LAYOUTS[name]
    fill(tmp_path, files)
    expected = files_below(tmp_path), folders_below(tmp_path)
    counted = Counted(tmp_path, monkeypatch)
    scan = scan_folder(tmp_path)
    assert (dict(counted.files), dict(counted.folders)) == expected
    assert scan.layout == layout and scan.usable() and scan.defects == ()


def test_the_log_of_votes_is_read_and_parsed_once(tmp_path, monkeypatch):
    """Four lines: the set, a group of three, and two votes."""
    store = PreferenceStore(tmp_path)
    store.add_group("a cat", [NewImage(png(shade)) for shade in (1, 2, 3)])
    for _ in range(2):
        (question,) = store.next(1)
        store.vote(question.pair, "win", question.left)
    expected = {name: 1 for name in files_below(tmp_path) if not name.startswith(".")}
    lines: list[bytes] = []
    parse = state.parse
    monkeypatch.setattr(state, "parse", lambda line: lines.append(line) or parse(line))
    counted = Counted(tmp_path, monkeypatch)
    scan = scan_folder(tmp_path)
    assert (scan.layout, len(scan.pairs), scan.defects) == ("collected", 2, ())
    assert dict(counted.files) == expected
    assert dict(counted.folders) == {".": 1, "images": 1}
    assert len(lines) == 4


@pytest.mark.parametrize("deep", [False, True])
def test_an_image_of_many_pairs_is_walked_and_decoded_once(tmp_path, monkeypatch, deep):
    """Six ranked images make 15 pairs."""
    fill(tmp_path, {**{f"a_{rank}.png": 20 * rank for rank in range(6)}, "a.txt": "x"})
    walked, decoded = Counter(), Counter()
    inspect, load = checks.inspect_image, checks.load_rgb
    monkeypatch.setattr(checks, "inspect_image", lambda path: walked.update([path.name]) or inspect(path))
    monkeypatch.setattr(checks, "load_rgb", lambda path: decoded.update([path.name]) or load(path))
    assert len(scan_folder(tmp_path, deep=deep).pairs) == 15
    once = {f"a_{rank}.png": 1 for rank in range(6)}
    assert (walked, decoded) == (once, once if deep else {})


def test_equal_images_are_read_again_to_prove_it_and_the_first_of_them_once(tmp_path, monkeypatch):
    """Three files with the same pixels: the first is walked again for the proof, which then serves both others."""
    fill(tmp_path, {"a_0.png": 1, "a_1.png": 1, "a_2.png": 1, "a_3.png": 9, "a.txt": "x"})
    walked = Counter()
    inspect = checks.inspect_image
    monkeypatch.setattr(checks, "inspect_image", lambda path: walked.update([path.name]) or inspect(path))
    assert len(scan_folder(tmp_path).pairs) == 1  # each of the first three against the last; two of them repeat it
    assert walked == {"a_0.png": 2, "a_1.png": 1, "a_2.png": 1, "a_3.png": 1}


def test_metadata_is_asked_once_where_there_is_no_caption(tmp_path, monkeypatch):
    fill(tmp_path, {f"a_{rank}.png": 20 * rank for rank in range(4)})
    opened = Counter()
    load = image_metadata.Image.open
    monkeypatch.setattr(
        image_metadata.Image, "open", lambda path, **more: opened.update([path.name]) or load(path, **more)
    )
    assert len(scan_folder(tmp_path, allow_empty_captions=True).pairs) == 6
    assert opened == {f"a_{rank}.png": 1 for rank in range(4)}


def test_a_parquet_file_is_read_once_and_its_index_once_in_each_scan(tmp_path, monkeypatch):
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    rows = {"caption": ["x"], "jpg_0": [png(1, format="JPEG")], "jpg_1": [png(80, format="JPEG")], "label_0": [1.0]}
    pq.write_table(arrow.table(rows), tmp_path / "a.parquet")
    extractions: list[Path] = []
    read = parquet._parquet_rows
    monkeypatch.setattr(parquet, "_parquet_rows", lambda path: extractions.append(path) or read(path))
    first = scan_pairs(tmp_path)
    assert (len(first.pairs), len(extractions)) == (1, 1)
    (index,) = (tmp_path / ".dspo_cache" / "tables").iterdir()
    counted = Counted(tmp_path, monkeypatch)
    assert scan_pairs(tmp_path) == first
    assert len(extractions) == 1
    assert counted.files[f".dspo_cache/tables/{index.name}"] == 1
    assert dict(counted.folders) == {".": 1, ".dspo_cache/images": 1}
    assert counted.files.total() == 3  # the index and two images
