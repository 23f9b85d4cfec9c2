import io
import sys

import pytest
from PIL import Image

from dspo_train.exceptions import DatasetError
from dspo_train.pairs import parquet, scan_pairs


def jpeg(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (shade, 90, 90)).save(buffer, format="JPEG")
    return buffer.getvalue()


ROWS = {
    "caption": ["a cat", "a dog", "a tie", "unjudged", "broken", "again"],
    "jpg_0": [jpeg(10), jpeg(50), jpeg(90), jpeg(120), b"<html>", jpeg(10)],
    "jpg_1": [jpeg(20), jpeg(60), jpeg(100), jpeg(130), jpeg(140), jpeg(200)],
    "label_0": [1.0, 0.0, 0.5, 0.5, 1.0, 1.0],
    "label_1": [0.0, 1.0, 0.5, 0.5, 0.0, 0.0],
    "has_label": [True, True, True, False, True, True],
    "image_0_uid": ["u"] * 6,
}


@pytest.fixture
def folder(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    (tmp_path / "data").mkdir()
    pq.write_table(arrow.table(ROWS), tmp_path / "data" / "train-00000-of-00001.parquet", row_group_size=2)
    return tmp_path


def contents(scan) -> list:
    return [(p.prompt, p.winner.read_bytes(), p.loser.read_bytes()) for p in scan.pairs]


def test_pick_a_pic(folder):
    scan = scan_pairs(folder)
    assert contents(scan) == [
        ("a cat", jpeg(10), jpeg(20)),
        ("a dog", jpeg(60), jpeg(50)),
        ("again", jpeg(10), jpeg(200)),
    ]
    assert (scan.layout, scan.ties) == ("metadata", 1)
    assert [(d.kind, d.where) for d in scan.defects] == [
        ("bad_metadata", "data/train-00000-of-00001.parquet:row 5"),
        ("unlabelled", "data/train-00000-of-00001.parquet:row 4"),
    ]
    assert "jpg_0 holds no PNG, JPEG or WebP image" in scan.defects[0].message
    assert not any(".dspo_cache" in pair.key for pair in scan.pairs)
    # 10, 20, 50, 60 and 200; neither tie, unjudged nor broken rows take disk space, and 10 is stored once.
    assert len(list((folder / ".dspo_cache" / "images").iterdir())) == 5


def test_extracted_once(folder, monkeypatch):
    first = scan_pairs(folder)
    monkeypatch.setattr(parquet, "_parquet_rows", lambda path: pytest.fail("the parquet file was read again"))
    assert scan_pairs(folder) == first


def test_a_cleaned_cache_is_filled_again(folder):
    first = scan_pairs(folder)
    first.pairs[0].winner.unlink()
    assert scan_pairs(folder) == first
    assert first.pairs[0].winner.read_bytes() == jpeg(10)


def test_a_picture_damaged_in_the_cache_is_a_defect(folder):
    first = scan_pairs(folder)
    path = first.pairs[1].winner
    path.write_bytes(path.read_bytes()[:100])
    assert [d.kind for d in scan_pairs(folder).defects].count("unreadable_image") == 1


def test_image_feature_of_datasets(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    rows = [
        {
            "prompt": "x",
            "image_0": {"bytes": jpeg(1), "path": None},
            "image_1": {"bytes": jpeg(80), "path": "b"},
            "label": 1,
        },
    ]
    pq.write_table(arrow.Table.from_pylist(rows), tmp_path / "x.parquet")
    assert contents(scan_pairs(tmp_path)) == [("x", jpeg(80), jpeg(1))]


def test_without_pyarrow_the_message_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DatasetError, match=r"x\.parquet: reading parquet needs pyarrow.*pip install pyarrow"):
        scan_pairs(tmp_path)


def test_no_images_variant(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(arrow.table({"caption": ["x"], "label_0": [1.0], "image_0_url": ["u"]}), tmp_path / "x.parquet")
    columns = r"\(columns: caption, label_0, image_0_url\)"
    with pytest.raises(DatasetError, match=rf"^[^(]*x\.parquet: holds no images {columns}"):
        scan_pairs(tmp_path)


def test_a_failed_extraction_leaves_no_index(folder, monkeypatch):
    def interrupted(root, row):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parquet, "_extract_row", interrupted)
    with pytest.raises(DatasetError, match=r"cannot extract the images .*No space left on device"):
        scan_pairs(folder)
    monkeypatch.undo()
    assert list((folder / ".dspo_cache" / "tables").iterdir()) == []
    assert len(scan_pairs(folder).pairs) == 3
