"""Folders of liked and disliked images: layouts read, defects named, and whatever can be pairs read as pairs."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from test_pairs import LAYOUTS, fill, kinds, picture

from dspo_train.exceptions import DatasetError
from dspo_train.images.buckets import Bucket
from dspo_train.images.shared_buckets import shared_buckets
from dspo_train.pairs import Scan, format_report, scan_folder, scan_pairs
from dspo_train.pairs.listing import list_folder
from dspo_train.pairs.readers import Readers
from dspo_train.pairs.unpaired_layouts import surely_unpaired, unpaired_layout


def told(scan: Scan) -> dict[str, tuple[bool, str]]:
    """key -> (liked, prompt) of all usable images."""
    return {image.key: (image.liked, image.prompt) for image in scan.liked + scan.disliked}


def looks_unpaired(folder: Path) -> bool:
    return unpaired_layout(Readers(list_folder(folder))) is not None


ONE_EACH = {"liked/a.png": (True, "a cat"), "disliked/b.png": (False, "a dog")}
CAPTIONS = {"liked/a.txt": "a cat", "disliked/b.txt": "a dog"}
FLAT = {"a.png": (True, "a cat"), "b.png": (False, "a dog")}
PICTURES = {"a.png": 1, "b.png": 2}
CASES = {
    "folders": ({"liked/a.png": 1, "disliked/b.png": 2, **CAPTIONS}, ONE_EACH),
    "captions beside the folders": (
        {"liked/a.png": 1, "disliked/b.png": 2, "a.txt": "a cat", "b.txt": "a dog"},
        ONE_EACH,
    ),
    "another spelling, any case": (
        {"Like/a.PNG": 1, "DISLIKE/b.JPEG": 2, "Like/a.txt": "a cat", "DISLIKE/b.TXT": "a dog"},
        {"Like/a.PNG": (True, "a cat"), "DISLIKE/b.JPEG": (False, "a dog")},
    ),
    "good and bad, nested": (
        {"s/good/x/a.webp": 1, "s/bad/b.png": 2, "s/x/a.txt": "a cat", "s/bad/b.txt": "a dog"},
        {"s/good/x/a.webp": (True, "a cat"), "s/bad/b.png": (False, "a dog")},
    ),
    "chosen and rejected without equal names": (
        {"chosen/a.png": 1, "rejected/b.png": 2, "a.txt": "a cat", "b.txt": "a dog"},
        {"chosen/a.png": (True, "a cat"), "rejected/b.png": (False, "a dog")},
    ),
    "a generator's numbers are no ranking": (
        {
            "liked/a_0.png": 1,
            "liked/a_1.png": 2,
            "disliked/a_0.png": 3,
            "liked/a_0.txt": "x",
            "a_1.txt": "y",
            "a_0.txt": "z",
        },
        {"liked/a_0.png": (True, "x"), "liked/a_1.png": (True, "y"), "disliked/a_0.png": (False, "z")},
    ),
    "unicode": (
        {"liked/猫 é.png": 1, "disliked/собака.png": 2, "liked/猫 é.txt": "猫", "disliked/собака.txt": "собака"},
        {"liked/猫 é.png": (True, "猫"), "disliked/собака.png": (False, "собака")},
    ),
    "folders and a table of captions": (
        {
            "liked/a.png": 1,
            "disliked/b.png": 2,
            "liked/a.txt": "not this",
            "metadata.csv": "file_name,text\nliked/a.png,a cat\ndisliked/b.png,a dog\n",
        },
        ONE_EACH,
    ),
    "folders with a table each": (
        {
            "liked/a.png": 1,
            "disliked/b.png": 2,
            "liked/metadata.csv": "file_name,text\na.png,a cat\n",
            "disliked/metadata.jsonl": '{"file_name": "b.png", "caption": "a dog"}\n',
        },
        ONE_EACH,
    ),
    "csv": ({**PICTURES, "opinions.csv": "file,caption,label\na.png,a cat,1\nb.png,a dog,-1\n"}, FLAT),
    "csv, semicolons and words": (
        {**PICTURES, "opinions.csv": "file;caption;label\na.png;a cat;TRUE\nb.png;a dog;0\n"},
        FLAT,
    ),
    "csv as Diffusion-KTO has it": (
        {
            **PICTURES,
            "opinions.csv": "file_path,caption,label\na.png,a cat,exclusive_win\nb.png,a dog,exclusive_lose\n",
        },
        FLAT,
    ),
    "jsonl": (
        {
            **PICTURES,
            "a.txt": "a cat",
            "opinions.jsonl": '{"file": "a.png", "label": true}\n{"file": "b.png", "caption": "a dog", "liked": 0}\n',
        },
        FLAT,
    ),
    "metadata with labels": (
        {**PICTURES, "metadata.csv": "file_name,text,label\na.png,a cat,+1\nb.png,a dog,false\n"},
        FLAT,
    ),
    "a table whose labels are the folders": (
        {
            "liked/a.png": 1,
            "disliked/b.png": 2,
            "opinions.csv": "file,caption\nliked/a.png,a cat\ndisliked/b.png,a dog\n",
        },
        ONE_EACH,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_layouts(tmp_path, case):
    files, expected = CASES[case]
    fill(tmp_path, files)
    scan = scan_folder(tmp_path)
    assert scan.unpaired and scan.noun == "images"
    assert told(scan) == expected
    assert [defect for defect in scan.defects if "differs from" not in defect.message] == []
    assert all(image.image.is_file() and image.size == (64, 64) for image in scan.images)
    assert scan.usable() == scan.rows == scan.liked + scan.disliked


@pytest.mark.parametrize("case", CASES)
def test_names_that_fail_to_match_may_be_meant_as_pairs(tmp_path, case):
    """Only `chosen` and `rejected` leave that open; the scan for pairs then asks for the partners."""
    readers = Readers(list_folder(fill(tmp_path, CASES[case][0])))
    unpaired = "chosen/a.png" not in readers.listing.images
    assert surely_unpaired(readers) == unpaired
    if unpaired:
        with pytest.raises(DatasetError, match="holds liked and disliked images without pairs"):
            scan_pairs(tmp_path)
    else:
        assert kinds(scan_pairs(tmp_path)) == ["partner_missing"] * 2


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_the_scan_for_pairs_reads_stays_pairs(tmp_path, name):
    fill(tmp_path, LAYOUTS[name][0])
    scan = scan_folder(tmp_path)
    assert scan.pairs and not scan.unpaired and scan.noun == "pairs"
    assert scan == scan_pairs(tmp_path)


PAIRS_STILL = {
    "chosen and rejected, one name in common": {"chosen/a.png": 1, "rejected/a.png": 2, "rejected/b.png": 3},
    "chosen and rejected, ranked": {"chosen/a_0.png": 1, "chosen/a_1.png": 2, "rejected/b.png": 3},
    "suffixes inside": {"good/a_w.png": 1, "good/a_l.png": 2, "bad/b.png": 3},
    "a ranking in a folder named good": {"good/a_0.png": 1, "good/a_1.png": 2},
    "a table of pairs": {"liked/a.png": 1, "disliked/b.png": 2, "metadata.csv": "image_0,image_1,label\n"},
    "no layout at all": {"a.png": 1, "b.png": 2},
    "rejected alone": {"rejected/a.png": 1},
    "captions alone": {"a.png": 1, "metadata.csv": "file_name,text\na.png,a cat\n"},
}


@pytest.mark.parametrize("name", PAIRS_STILL)
def test_other_folders_do_not_look_unpaired(tmp_path, name):
    assert not looks_unpaired(fill(tmp_path, PAIRS_STILL[name]))


@pytest.mark.parametrize("files", [{}, {"liked/notes.txt": "x"}])
def test_a_folder_without_pictures_is_refused(tmp_path, files):
    fill(tmp_path, files)
    with pytest.raises(DatasetError, match=r"is empty|holds no PNG"):
        scan_folder(tmp_path)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="no such folder"):
        scan_folder(tmp_path / "none")


def five_and_two(folder: Path) -> Path:
    """Liked 0 to 4, disliked 5 and 6, each with its own caption."""
    for i in range(7):
        side = "liked" if i < 5 else "disliked"
        fill(folder, {f"{side}/{i}.png": 10 * i, f"{side}/{i}.txt": f"dog {i}"})
    return folder


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def huge(path: Path) -> None:
    picture(path, 1, (9000, 8000))


def again(path: Path) -> None:
    shutil.copy(path, path.with_name("copy.png"))
    shutil.copy(path.with_suffix(".txt"), path.with_name("copy.txt"))


def on_both_sides(path: Path) -> None:
    other = path.parents[1] / "disliked" / "copy.png"
    shutil.copy(path, other)
    shutil.copy(path.with_suffix(".txt"), other.with_suffix(".txt"))


HARM: dict[str, tuple[Callable[[Path], object], str, str, tuple[int, int]]] = {
    "truncated": (cut, "unreadable_image", "is cut off", (4, 2)),
    "no picture at all": (lambda path: path.write_bytes(b"hello"), "unreadable_image", "is not a PNG, JPEG", (4, 2)),
    "huge": (huge, "bad_size", "over 64 megapixels", (4, 2)),
    "tiny": (lambda path: picture(path, 1, (8, 8)), "bad_size", "a side is under 64", (4, 2)),
    "no caption": (lambda path: path.with_suffix(".txt").unlink(), "no_caption", "no caption file with text", (4, 2)),
    "damaged caption": (lambda path: path.with_suffix(".txt").write_bytes(b"\xff"), "bad_caption", "UTF-8", (4, 2)),
    "twice on one side": (again, "same_image", "with the same rating", (5, 2)),
    "on both sides": (on_both_sides, "contradicting_labels", "once liked and once disliked", (4, 2)),
}


@pytest.mark.parametrize("name", HARM)
@pytest.mark.slow
def test_a_harmed_picture_is_left_out_and_told(tmp_path, name):
    harm, kind, words, (liked, disliked) = HARM[name]
    five_and_two(tmp_path)
    harm(tmp_path / "liked/0.png")
    scan = scan_folder(tmp_path)
    fatal = [defect for defect in scan.defects if defect.fatal]
    assert {defect.kind for defect in fatal} == {kind}
    assert words in str(fatal[0])
    assert (len(scan.liked), len(scan.disliked)) == (liked, disliked)
    assert len(scan.usable()) == liked + disliked


def test_one_picture_may_be_liked_and_disliked_under_two_prompts(tmp_path):
    """The row of each file is named, and both stay."""
    rows = "file,caption,label\na.png,a red car,1\na.png,a blue car,0\n"
    scan = scan_folder(fill(tmp_path, {"a.png": 1, "opinions.csv": rows}))
    assert told(scan) == {"a.png": (True, "a red car"), "a.png#2": (False, "a blue car")}
    (defect,) = scan.defects
    assert (defect.kind, defect.where, defect.fatal) == ("contradicting_labels", "opinions.csv:3", False)


@pytest.mark.parametrize("side", ["liked", "disliked"])
def test_an_empty_side_is_told(tmp_path, side):
    five_and_two(tmp_path)
    shutil.rmtree(tmp_path / side)
    (tmp_path / side).mkdir()
    scan = scan_folder(tmp_path)
    assert scan.unpaired
    assert [(defect.kind, defect.where) for defect in scan.defects] == [("partner_missing", side)]
    with pytest.raises(DatasetError, match=rf"no usable images on both sides .*\n.*no usable {side} image"):
        scan.usable()
    assert format_report(scan).endswith("NOT USABLE: one side has no image to train on; fix the defects above.")


BAD_ROWS = {
    "a label of three": ("a.png,x,3", "bad_metadata", "label is \"3\"; it must be true, 1 or liked"),
    "half a label": ("a.png,x,0.5", "bad_metadata", "it must be true"),
    "a word": ("a.png,x,meh", "bad_metadata", "it must be true"),
    "against its folder": ("liked/c.png,x,0", "bad_metadata", "but liked/c.png is in the folder of liked images"),
    "no such picture": ("nowhere.png,x,1", "missing_file", "there is no image"),
    "outside": ("../a.png,x,1", "outside_folder", "leads out of the dataset folder"),
    "too many values": ("a.png,x,y,1", "bad_metadata", "4 values for 3 columns"),
    "no file": (",x,1", "bad_metadata", "must be the path of an image"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_row_is_told_with_its_line(tmp_path, name):
    row, kind, words = BAD_ROWS[name]
    rows = f"file,caption,label\na.png,a cat,1\nb.png,a dog,0\n{row}\n"
    more = {"liked/c.png": 3} if "liked/c.png" in row else {}
    scan = scan_folder(fill(tmp_path, {**PICTURES, **more, "opinions.csv": rows}))
    assert [(defect.kind, defect.where) for defect in scan.defects] == [(kind, "opinions.csv:4")]
    assert words in scan.defects[0].message
    assert told(scan) == FLAT


def test_a_broken_line_shows_an_example_of_one_picture(tmp_path):
    scan = scan_folder(fill(tmp_path, {"a.png": 1, "opinions.jsonl": "{oops\n"}))
    (broken,) = (defect for defect in scan.defects if defect.kind == "bad_metadata")
    assert '{"file": "a.png"' in broken.message
    assert "image_0" not in broken.message


def test_rows_without_a_label_stay_out_with_a_warning(tmp_path):
    rows = "file,caption,label\na.png,a cat,1\nb.png,a dog,0\nc.png,x,\n"
    scan = scan_folder(fill(tmp_path, {**PICTURES, "c.png": 3, "opinions.csv": rows}))
    assert [(defect.kind, defect.fatal) for defect in scan.defects] == [("unlabelled", False)]
    assert told(scan) == FLAT


def test_a_table_without_pictures_in_its_header_is_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"opinions\.csv:1: the header lacks 'file'"):
        scan_folder(fill(tmp_path, {"a.png": 1, "opinions.csv": "caption,label\nx,1\n"}))


def test_pictures_on_no_side_are_told(tmp_path):
    scan = scan_folder(fill(five_and_two(tmp_path), {"stray.png": 200}))
    assert kinds(scan) == ["ignored_files"]
    assert str(scan.defects[0]) == "stray.png: is in neither the liked nor the disliked folder; ignored"


def test_empty_captions_may_be_allowed(tmp_path):
    five_and_two(tmp_path)
    (tmp_path / "liked/0.txt").unlink()
    assert told(scan_folder(tmp_path, allow_empty_captions=True))["liked/0.png"] == (True, "")


def test_a_deep_scan_finds_equal_pixels_in_other_files(tmp_path):
    five_and_two(tmp_path)
    with Image.open(tmp_path / "liked/0.png") as image:
        image.save(tmp_path / "disliked/0.webp", lossless=True)
    (tmp_path / "disliked/0.txt").write_text("dog 0")
    assert kinds(scan_folder(tmp_path)) == []
    assert kinds(scan_folder(tmp_path, deep=True)) == ["contradicting_labels"] * 2


def test_a_report_says_all(tmp_path):
    five_and_two(tmp_path)
    picture(tmp_path / "liked/4.png", 40, (128, 64))
    lines = [line.split() for line in format_report(scan_folder(tmp_path)).splitlines()]
    assert ["Images", "5", "liked,", "2", "disliked,", "7", "different", "prompts"] in lines
    assert ["width", "64", "64", "128"] in lines
    assert ["512", "x", "512", "5", "2"] in lines
    assert ["1", "image", "is", "cropped", "to", "another"] in [line[:6] for line in lines]
    # 128x64 in a square of 512: half of it is cut away.
    assert (
        " ".join(lines[-1])
        == "READY: 5 liked and 2 disliked images, 1 image loses over 25% of an image's area to the crop."
    )


SQUARE, WIDE, TALL = Bucket(64, 64), Bucket(80, 48), Bucket(48, 80)
SHARED = {
    "each in its own": ([(9, 9), (9, 5)], [(8, 8), (9, 5)], [SQUARE, WIDE], [SQUARE, WIDE]),
    "to the nearest that has both": (
        [(9, 9), (9, 5), (5, 9)], [(8, 8), (5, 9)], [SQUARE, SQUARE, TALL], [SQUARE, TALL],
    ),
    "to the most common where none has both": ([(9, 5), (9, 5)], [(5, 9)], [WIDE, WIDE], [WIDE]),
    "to the largest of equals": ([(9, 5)], [(8, 8)], [SQUARE], [SQUARE]),
    "nothing": ([], [], [], []),
}  # fmt: skip


@pytest.mark.parametrize("name", SHARED)
def test_buckets_hold_both_sides(name):
    liked, disliked, liked_in, disliked_in = SHARED[name]
    assert shared_buckets(liked, disliked, [TALL, SQUARE, WIDE]) == (liked_in, disliked_in)
