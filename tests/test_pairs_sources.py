"""Pairs made from a source image (img2img): where each layout names it, and what happens where it is unusable."""

import json
from pathlib import Path

import pytest
from test_pairs import fill, kinds, picture

from dspo_train.pairs import Scan, scan_folder
from dspo_train.pairs.discover import pairs_stamp
from dspo_train.pairs.export import export

ROW = {"prompt": "x", "image_0": "a.png", "image_1": "b.png", "preference": 0}
A_B = {"a.png": 1, "b.png": 2}
WITH_SOURCE = {
    "suffixes": ({"cat_w.png": 1, "cat_l.png": 2, "cat_source.jpg": 3, "cat.txt": "x"}, "cat_source.jpg"),
    "suffixes, any case and nested": (
        {"s/cat_WIN.png": 1, "s/cat_lose.png": 2, "s/cat_SOURCE.png": 3, "s/cat.txt": "x"},
        "s/cat_SOURCE.png",
    ),
    "subfolders": ({"chosen/a.png": 1, "rejected/a.png": 2, "source/a.webp": 3, "a.txt": "x"}, "source/a.webp"),
    "subfolders inside a folder": (
        {"set/w/cat.png": 1, "set/l/cat.png": 2, "set/Source/cat.png": 3, "set/cat.txt": "x"},
        "set/Source/cat.png",
    ),
    "ranked": ({"cat_0.png": 1, "cat_1.png": 2, "cat_source.png": 3, "cat.txt": "x"}, "cat_source.png"),
    "jsonl": ({**A_B, "c.png": 3, "metadata.jsonl": json.dumps({**ROW, "source": "./c.png"})}, "c.png"),
    "csv": ({**A_B, "c.png": 3, "metadata.csv": "prompt,image_0,image_1,label,source\nx,a.png,b.png,0,c.png"}, "c.png"),
}


def sources(scan: Scan) -> list[str | None]:
    return [pair.source and pair.source.relative_to(scan.folder).as_posix() for pair in scan.pairs]


@pytest.mark.parametrize("name", WITH_SOURCE)
def test_a_source_is_found(tmp_path, name):
    files, source = WITH_SOURCE[name]
    scan = scan_folder(fill(tmp_path, files))
    assert sources(scan) == [source]
    assert scan.defects == ()


def test_without_a_source_there_is_none(tmp_path):
    assert sources(scan_folder(fill(tmp_path, {"cat_w.png": 1, "cat_l.png": 2, "cat.txt": "x"}))) == [None]


def test_all_pairs_of_a_ranked_set_have_its_source(tmp_path):
    files = {"cat_0.png": 1, "cat_1.png": 2, "cat_2.png": 4, "cat_source.png": 3, "cat.txt": "x"}
    assert sources(scan_folder(fill(tmp_path, files))) == ["cat_source.png"] * 3


UNUSABLE = {
    "missing from the table": (
        {**A_B, "metadata.jsonl": json.dumps({**ROW, "source": "c.png"})},
        "metadata.jsonl:1",
        'source: there is no image "c.png" here',
    ),
    "outside the folder": (
        {**A_B, "metadata.jsonl": json.dumps({**ROW, "source": "../c.png"})},
        "metadata.jsonl:1",
        "leads out of the dataset folder",
    ),
    "not an image": (
        {"cat_w.png": 1, "cat_l.png": 2, "cat_source.png": "hello", "cat.txt": "x"},
        "cat_w.png",
        "the source image cat_source.png: is not a PNG, JPEG or WebP image",
    ),
    "several": (
        {"chosen/cat.png": 1, "rejected/cat.png": 2, "source/cat.png": 3, "source/cat.jpg": 4, "cat.txt": "x"},
        "chosen/cat.png",
        "there are several source images (source/cat.jpg, source/cat.png)",
    ),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_pair_is_kept_without_a_source_that_is_unusable(tmp_path, name):
    files, where, words = UNUSABLE[name]
    scan = scan_folder(fill(tmp_path, files))
    assert sources(scan) == [None]
    (defect,) = scan.defects
    assert (defect.kind, defect.where, defect.fatal) == ("bad_source", where, False)
    assert words in defect.message and defect.message.endswith("The pair is kept without its source image")


def test_a_source_of_an_outrageous_size_is_unusable(tmp_path):
    fill(tmp_path, {"cat_w.png": 1, "cat_l.png": 2, "cat.txt": "x"})
    picture(tmp_path / "cat_source.png", 3, (8, 8))
    scan = scan_folder(tmp_path)
    assert (sources(scan), kinds(scan)) == ([None], ["bad_source"])
    assert "8x8 pixels: a side is under 64" in scan.defects[0].message


def test_a_damaged_image_may_be_a_source_and_a_winner(tmp_path):
    """Images are often refined in rounds: what wins one pair is the source of the next."""
    rows = [{**ROW, "image_0": "bad.png"}, {**ROW, "source": "bad.png"}]
    scan = scan_folder(
        fill(tmp_path, {**A_B, "bad.png": "no image", "metadata.jsonl": "\n".join(map(json.dumps, rows))})
    )
    assert sources(scan) == [None]
    assert [(d.kind, d.where, d.fatal) for d in scan.defects] == [
        ("bad_source", "metadata.jsonl:2", False),
        ("unreadable_image", "bad.png", True),
    ]


@pytest.mark.parametrize("note", ["human", "", None, 3, "https://example.org/set"])
def test_a_column_that_says_where_a_row_comes_from_is_no_path(tmp_path, note):
    scan = scan_folder(fill(tmp_path, {**A_B, "metadata.jsonl": json.dumps({**ROW, "source": note})}))
    assert (sources(scan), scan.defects) == ([None], ())


def test_a_source_alone_belongs_to_no_pair(tmp_path):
    files = {"cat_w.png": 1, "cat_l.png": 2, "cat.txt": "x", "dog_source.png": 3}
    scan = scan_folder(fill(tmp_path, files))
    assert [(d.kind, d.where) for d in scan.defects] == [("ignored_files", "dog_source.png")]


def test_a_source_is_not_trained_and_so_not_in_the_stamp(tmp_path):
    fill(tmp_path, {"cat_w.png": 1, "cat_l.png": 2, "cat.txt": "x"})
    before = pairs_stamp(scan_folder(tmp_path))
    fill(tmp_path, {"cat_source.png": 3})
    scan = scan_folder(tmp_path)
    assert sources(scan) == ["cat_source.png"] and pairs_stamp(scan) == before


@pytest.mark.parametrize("layout", ["suffix", "subfolders", "ranked", "jsonl", "csv"])
def test_an_export_keeps_the_source(tmp_path: Path, layout):
    """One pair has a source, the other none."""
    files = {"a_w.png": 1, "a_l.png": 2, "a_source.jpg": 3, "a.txt": "x", "b_w.png": 4, "b_l.png": 5, "b.txt": "y"}
    scan = scan_folder(fill(tmp_path / "in", files))
    report = export(scan, tmp_path / "out", layout)
    again = scan_folder(tmp_path / "out")
    assert (report.pairs, report.images, again.defects) == (2, 5, ())
    (source, none) = (pair.source for pair in again.pairs)
    assert source and none is None
    assert source.read_bytes() == (tmp_path / "in" / "a_source.jpg").read_bytes()
