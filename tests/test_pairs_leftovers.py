"""Every file of a folder is used, is part of a defect, or is listed with the reason why it is left out."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from test_pairs import fill, picture
from test_preferences import png

from dspo_train.exceptions import DatasetError
from dspo_train.images.formats import SUFFIXES
from dspo_train.pairs import format_report, scan_folder, scan_pairs
from dspo_train.pairs.listing import OTHER_IMAGE_SUFFIXES
from dspo_train.preferences import NewImage, PreferenceStore

PAIR = {"a_w.png": 1, "a_l.png": 2, "a.txt": "x"}
RATED = {"liked/a.png": 1, "liked/a.txt": "x", "disliked/b.png": 2, "disliked/b.txt": "y"}
TABLE = {"a.png": 1, "b.png": 2, "metadata.jsonl": json.dumps(
    {"prompt": "x", "image_0": "a.png", "image_1": "b.png", "preference": 0})}  # fmt: skip
OPINIONS = {"a.png": 1, "b.png": 2, "opinions.csv": "file,caption,label\na.png,x,1\nb.png,y,0\n"}
NO_PAIR = "belongs to no pair in the layout 'suffixes'; ignored"
LOOSE = "neither an image, a caption nor a table; ignored"
CASES = {
    "an image of no pair": (PAIR, {"c.png": 3}, NO_PAIR),
    "a source without its pair": (PAIR, {"c_source.png": 3}, NO_PAIR),
    "a caption without an image": (PAIR, {"j.txt": "x"}, "a caption of no image that is read; ignored"),
    "a caption of the second kind": (
        PAIR,
        {"a.caption": "y"},
        "differs from a.txt, which is read; ignored",
    ),
    "a caption of another trainer": (
        PAIR,
        {"a_w.json": "{}"},
        "is not read; write the caption into a .txt or .caption",
    ),
    "notes": (PAIR, {"README": "x"}, LOOSE),
    "an archive": (PAIR, {"backup.zip": "x"}, LOOSE),
    "a table of another layout": (PAIR, {"prompts.csv": "a,b\n"}, "this table is not read in the layout 'suffixes'"),
    "an image that the table lacks": (TABLE, {"c.png": 3}, "is not named in the table; ignored"),
    "a second table": (TABLE, {"metadata.csv": "prompt\n"}, "this table is not read in the layout 'metadata'"),
    "an image on no side": (RATED, {"c.png": 3}, "is in neither the liked nor the disliked folder; ignored"),
    "an image without an opinion": (OPINIONS, {"c.png": 3}, "is not named in the table; ignored"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_left_over_is_listed_with_the_reason(tmp_path, name):
    files, more, reason = CASES[name]
    assert scan_folder(fill(tmp_path, files)).defects == ()
    scan = scan_folder(fill(tmp_path, more))
    assert [(d.kind, d.where, d.fatal) for d in scan.defects] == [("ignored_files", *more, False)]
    assert scan.defects[0].message.startswith(reason)
    assert format_report(scan).splitlines()[-1].endswith(" 1 warning.")


@pytest.mark.parametrize("suffix", sorted(OTHER_IMAGE_SUFFIXES))
def test_formats_that_are_not_read_are_named(tmp_path, suffix):
    scan = scan_folder(fill(tmp_path, {**PAIR, f"j_w{suffix.upper()}": "x"}))
    assert [(d.kind, d.where) for d in scan.defects] == [("unsupported_format", f"j_w{suffix.upper()}")]
    assert scan.defects[0].message == f"{suffix} images are not read; save it as PNG, JPEG or WebP"


def test_every_name_that_pillow_gives_a_format_is_read_or_named():
    """Pillow knows a suffix for every format; one that it learns must be added here."""
    Image.init()
    data = {".mpg", ".mpeg", ".pdf", ".ps", ".eps", ".fit", ".fits", ".grib", ".h5", ".hdf", ".im", ".iim", ".ftc"}
    data |= {".ftu", ".cur", ".dcx", ".emf", ".wmf", ".bufr", ".blp", ".flc", ".fli", ".gbr", ".mic", ".msp", ".palm"}
    data |= {".pcd", ".pxr", ".ras", ".xbm", ".xpm", ".pgx", ".ftex"}  # of no use as training images
    unknown = set(Image.registered_extensions()) - SUFFIXES - OTHER_IMAGE_SUFFIXES - data
    assert unknown == set()


def test_whatever_name_a_jpeg_has_it_is_read(tmp_path):
    for number, suffix in enumerate(sorted(SUFFIXES - {".png", ".apng", ".webp"})):
        picture(tmp_path / f"{number}_w{suffix}", 10 * number, format="JPEG")
        picture(tmp_path / f"{number}_l.png", 10 * number + 5)
        (tmp_path / f"{number}.caption").write_text("x")
    scan = scan_folder(tmp_path)
    assert (len(scan.pairs), scan.defects) == (len(SUFFIXES) - 3, ())
    assert {pair.winner.suffix for pair in scan.pairs} >= {".jfif", ".jpe", ".jpeg"}


def test_both_names_of_captions_are_read_and_the_usual_one_goes_first(tmp_path):
    scan = scan_folder(fill(tmp_path, {**PAIR, "a.caption": "other", "b_w.png": 3, "b_l.png": 4, "b.caption": "y"}))
    assert [pair.prompt for pair in scan.pairs] == ["x", "y"]


def test_captions_that_are_passed_over_are_listed_where_they_say_something_else(tmp_path):
    files = {"a_w.png": 1, "a_l.png": 2, "a_w.txt": "a red  cat", "a_l.txt": "a blue cat"}
    scan = scan_folder(fill(tmp_path, files))
    assert [(d.where, d.message) for d in scan.defects] == [("a_l.txt", "differs from a_w.txt, which is read; ignored")]
    (tmp_path / "a_l.txt").write_text("a red cat\n")
    assert scan_folder(tmp_path).defects == ()


def test_an_empty_caption_hides_no_other(tmp_path):
    scan = scan_folder(
        fill(tmp_path, {"a_w.png": 1, "a_l.png": 2, "a.txt": " \n", "a.caption": "a cat", "a_l.txt": ""})
    )
    assert ([pair.prompt for pair in scan.pairs], scan.defects) == (["a cat"], ())


@pytest.mark.parametrize("name", ["a.json", "a_w.tags", "b.cap", "c.json"])
def test_captions_of_other_trainers_are_known_by_the_names_that_captions_have(tmp_path, name):
    """Beside a caption that is read, a winner, and pairs without a caption."""
    fill(tmp_path, {**PAIR, "b_w.png": 3, "b_l.png": 4, "c_w.png": 5, name: "{}"})
    (found,) = (d for d in scan_folder(tmp_path).defects if d.where == name)
    instead = "write the caption into a .txt or .caption file of this name"
    assert found.message == ("is not read, but a.txt is; ignored" if name == "a.json" else f"is not read; {instead}")


def test_captions_of_a_defect_are_not_left_over(tmp_path):
    scan = scan_pairs(fill(tmp_path, {**PAIR, "b_w.png": 3, "b.txt": "y", "b_w.txt": "z"}))
    assert [d.kind for d in scan.defects] == ["partner_missing"]


def test_images_of_ties_and_of_bad_rows_are_not_left_over(tmp_path):
    rows = [{"prompt": "x", "image_0": "a.png", "image_1": "b.png", "preference": 0}]
    rows += [{"prompt": "x", "image_0": "c.png", "image_1": "d.png", "preference": value} for value in ("tie", 7, None)]
    files = {f"{name}.png": shade for shade, name in enumerate("abcd")}
    scan = scan_pairs(fill(tmp_path, {**files, "metadata.jsonl": "\n".join(map(json.dumps, rows))}))
    assert {d.kind for d in scan.defects} == {"bad_metadata", "unlabelled"}


def test_images_of_a_collected_set_are_its_own_before_they_are_judged(tmp_path):
    store = PreferenceStore(tmp_path)
    store.add_group("a cat", [NewImage(png(shade)) for shade in (1, 2, 3, 4)])
    (question,) = store.next(1)
    store.vote(question.pair, "win", question.left)
    assert scan_folder(tmp_path).defects == ()
    shutil.copy(next((tmp_path / "images").iterdir()), tmp_path / "images" / "mine.png")
    assert [d.where for d in scan_folder(tmp_path).defects] == ["images/mine.png"]


def test_a_folder_of_other_formats_alone_is_refused_with_their_names(tmp_path):
    with pytest.raises(
        DatasetError, match=r"holds no PNG, JPEG or WebP image\n  a_l\.heic: \.heic images are not read"
    ):
        scan_folder(fill(tmp_path, {"a_w.heic": "x", "a_l.heic": "x"}))


def test_all_of_a_report_can_be_asked_for(tmp_path):
    scan = scan_folder(fill(tmp_path, {**PAIR, **{f"{number:02}.zip": "x" for number in range(30)}}))
    assert "First 20 of 30 defects" in format_report(scan)
    report = format_report(scan, shown=None)
    assert all(f"{number:02}.zip" in report for number in range(30))


def test_no_file_goes_unmentioned(tmp_path: Path):
    """One of everything: each path is in a pair or in a defect."""
    files = {"j_w.jfif": 5, "j_l.jfif": 6, "j.txt": "x", "k.txt": "y", "m.heic": "x", "n.tga": "x", "o.jp2": "x"}
    fill(tmp_path, {**PAIR, **{name: content for name, content in files.items() if not name.endswith(".jfif")}})
    for name in ("j_w.jfif", "j_l.jfif"):
        picture(tmp_path / name, files[name], format="JPEG")
    scan = scan_folder(tmp_path)
    used = {path.name for pair in scan.pairs for path in pair.images} | {f"{pair.key}.txt" for pair in scan.pairs}
    assert used | {d.where for d in scan.defects} == {path.name for path in tmp_path.iterdir()}
    assert len(scan.pairs) == 2
