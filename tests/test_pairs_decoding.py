"""Before training, images are decoded: damage that no checksum shows is left out, all at once."""

import numpy as np
import pytest
from PIL import Image, ImageFile
from test_pairs import damage, fill

from dspo_train.exceptions import DatasetError
from dspo_train.pairs import decodable, scan_folder


def noisy(path, seed: int) -> None:
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (64, 64, 3), np.uint8)).save(path)


def broken_set(folder, count: int, broken: int, *, checksum: bool):
    """`count` pairs, of which the first `broken` hold a damaged loser."""
    for number in range(count):
        noisy(folder / f"{number}_w.png", 2 * number)
        noisy(folder / f"{number}_l.png", 2 * number + 1)
        fill(folder, {f"{number}.txt": f"a cat {number}"})
        if number < broken:
            damage(folder / f"{number}_l.png", checksum=checksum)
    return folder


def test_all_pairs_with_a_damaged_image_are_left_out_at_once(tmp_path):
    scan = scan_folder(broken_set(tmp_path, 5, 2, checksum=True))
    assert (len(scan.pairs), scan.defects) == (5, ())
    seen = []
    whole = decodable(scan, lambda done, total: seen.append((done, total)))
    assert [pair.key for pair in whole.pairs] == ["2", "3", "4"]
    assert [(d.kind, d.where, d.fatal) for d in whole.defects] == [
        ("unreadable_image", "0_l.png", True),
        ("unreadable_image", "1_l.png", True),
    ]
    assert "cannot be decoded" in whole.defects[0].message
    assert seen == [(number, 10) for number in range(1, 11)]


def test_a_checksum_shows_the_same_damage_to_the_quick_check(tmp_path):
    scan = scan_folder(broken_set(tmp_path, 3, 2, checksum=False))
    assert [pair.key for pair in scan.pairs] == ["2"]
    assert [d.where for d in scan.defects] == ["0_l.png", "1_l.png"]


def test_a_sound_set_stays_as_it_is(tmp_path):
    scan = scan_folder(broken_set(tmp_path, 2, 0, checksum=True))
    assert decodable(scan) is scan


def test_where_nothing_is_left_the_damage_is_listed(tmp_path):
    whole = decodable(scan_folder(broken_set(tmp_path, 2, 2, checksum=True)))
    with pytest.raises(DatasetError, match=r"no usable pair\n  0_l\.png: cannot be decoded(.|\n)*1_l\.png: cannot"):
        whole.usable()


def test_unpaired_images_likewise(tmp_path):
    fill(tmp_path, {"liked/a.txt": "x", "liked/c.txt": "x", "disliked/b.txt": "y"})
    for seed, name in enumerate(("liked/a", "liked/c", "disliked/b")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        noisy(tmp_path / f"{name}.png", seed)
    damage(tmp_path / "liked/a.png", checksum=True)
    assert [image.key for image in decodable(scan_folder(tmp_path)).images] == ["disliked/b.png", "liked/c.png"]


def test_a_cancel_stops_at_once_and_leaves_pillow_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    scan = scan_folder(broken_set(tmp_path, 4, 0, checksum=True))

    def cancel(done, total):
        assert not ImageFile.LOAD_TRUNCATED_IMAGES
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decodable(scan, cancel)
    assert ImageFile.LOAD_TRUNCATED_IMAGES
