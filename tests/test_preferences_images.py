"""A picture is what is seen, not the file around it; and a set that was deleted is missed."""

from __future__ import annotations

import io
import shutil

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from test_preferences import pictures, png

from dspo_train.pairs.importing import import_folder
from dspo_train.preferences import NewImage, PreferenceStore
from dspo_train.preferences.images import image_name, pixel_digits, store_image
from dspo_train.preferences.kept import Kept


def with_workflow(text: str) -> bytes:
    """The picture of shade 1, with a text in the file."""
    about = PngInfo()
    about.add_text("workflow", text)
    return png(1, pnginfo=about)


def encoded(image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **{"format": "PNG", **options})
    return buffer.getvalue()


def wide(value: int) -> bytes:
    """16-bit grey."""
    return encoded(Image.fromarray(np.full((8, 8), value, dtype=np.uint16)))


def test_another_workflow_makes_no_other_picture(tmp_path):
    """Nor does another lossless file type; the file that came first stays."""
    webp = encoded(Image.open(io.BytesIO(png(1))), format="WEBP", lossless=True)
    names = [store_image(tmp_path, data) for data in (with_workflow("a"), with_workflow("b"), webp)]
    assert len({*names}) == 1 and names[0].endswith(".png")
    assert [path.read_bytes() for path in (tmp_path / "images").iterdir()] == [with_workflow("a")]


@pytest.mark.parametrize(
    "others",
    [
        (png(1), png(2)),
        (wide(40_000), wide(50_000)),  # alike in 8 bits
        (encoded(Image.new("L", (8, 4))), encoded(Image.new("L", (4, 8)))),
        (encoded(Image.new("RGBA", (8, 8), (9, 9, 9, 255))), encoded(Image.new("RGBA", (8, 8), (9, 9, 9, 0)))),
        (encoded(Image.new("P", (8, 8))), encoded(palette := Image.new("RGB", (8, 8), "red").quantize())),
        (png(1)[:-40], png(1)),  # cut short: the file itself is its name
    ],
)
def test_what_looks_different_is_another_picture(others):
    assert palette.mode == "P"
    assert len({image_name(data) for data in others}) == 2


def test_a_damaged_file_is_mended_by_the_same_pixels(tmp_path):
    name = store_image(tmp_path, with_workflow("a"))
    (tmp_path / name).write_bytes(with_workflow("a")[:-30])
    assert store_image(tmp_path, with_workflow("longer")) == name
    assert (tmp_path / name).read_bytes() == with_workflow("longer")


def test_a_pair_that_is_seen_to_be_one_picture_is_no_pair(tmp_path):
    folder = tmp_path / "pairs"
    folder.mkdir()
    for name, data in {"1_w": with_workflow("a"), "1_l": with_workflow("b"), "2_w": png(3), "2_l": png(4)}.items():
        (folder / f"{name}.png").write_bytes(data)
    for name in "12":
        (folder / f"{name}.txt").write_text("a cat", encoding="utf-8")
    report = import_folder(PreferenceStore(tmp_path / "set"), folder)
    assert (report.added, report.already) == (1, 0)
    assert any(defect.kind == "same_image" for defect in report.defects)


def test_a_pair_whose_pictures_are_there_as_another_type(tmp_path):
    store = PreferenceStore(tmp_path / "set")
    store.add_group("a", pictures(1, 2))
    folder = tmp_path / "pairs"
    folder.mkdir()
    for name, shade in (("1_w", 1), ("1_l", 2)):
        image = Image.open(io.BytesIO(png(shade)))
        (folder / f"{name}.webp").write_bytes(encoded(image, format="WEBP", lossless=True))
    (folder / "1.txt").write_text("a cat", encoding="utf-8")
    assert [import_folder(store, folder).added for _ in range(2)] == [1, 0]
    (judged,) = store.judged()
    assert judged.winner == store.groups()[0].names[0]


def test_a_set_with_pictures_named_by_their_files_goes_on(tmp_path):
    """As earlier versions named them."""
    store = PreferenceStore(tmp_path / "set")
    names = {
        name: f"images/{number:016x}.png" for number, name in enumerate(store.add_group("a", pictures(1, 2)).names)
    }
    log = store.folder / "preferences.jsonl"
    text = log.read_text(encoding="utf-8")
    for new, old in names.items():
        text = text.replace(new, old)
        (store.folder / new).rename(store.folder / old)
    log.write_text(text, encoding="utf-8")
    again = PreferenceStore(store.folder)
    (question,) = again.next()
    assert {question.left, question.right} == {*names.values()}
    again.vote(question.pair, "win", question.left)
    assert again.judged()[0].winner == question.left


def test_only_a_set_that_is_gone_is_missed(tmp_path):
    kept = Kept()
    store = PreferenceStore(tmp_path / "set")
    assert kept.losses("a") == 0
    kept.note("a", store.folder, store.id)
    store.add_group("a", pictures(1, 2))
    store.vote(store.next()[0].pair, "tie")
    assert (kept.losses("a"), kept.losses("b")) == (0, 0)
    shutil.rmtree(store.folder)
    assert [kept.losses("a") for _ in range(3)] == [1, 1, 1]  # until it is filled again, and after
    kept.note("a", store.folder, PreferenceStore(store.folder).id)
    assert kept.losses("a") == 1
    shutil.rmtree(store.folder)
    PreferenceStore(store.folder)  # another set of that name
    assert kept.losses("a") == 2


def test_a_store_goes_on_after_its_folder_was_deleted(tmp_path):
    store = PreferenceStore(tmp_path / "set")
    store.add_group("a", [NewImage(png(1)), NewImage(png(2))], id="g")
    old = store.id
    shutil.rmtree(store.folder)
    store.add_group("a", pictures(1, 2), id="g")
    assert store.id != old and len(PreferenceStore(store.folder).next(9)) == 1


def test_the_name_of_an_image_that_is_not_stored_yet_is_known(tmp_path):
    image = Image.effect_noise((24, 16), 60).convert("RGB")
    stored = store_image(tmp_path, encoded(image))
    assert stored == f"images/{pixel_digits(image)}.png"
    assert store_image(tmp_path, encoded(image, format="WEBP", lossless=True)) == stored
    assert pixel_digits(image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)) not in stored
