"""Images that are there already become groups of a set: found, grouped by prompt, stored as they are, and only once."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dspo_train.exceptions import RunError
from dspo_train.pairs.albums import NO_PROMPT, read_album
from dspo_train.pairs.comfy_recipe import Recipe
from dspo_train.pairs.gathering import CancelledError, GatherReport, Pick, gather, planned
from dspo_train.pairs.image_files import images_below
from dspo_train.pairs.image_index import INDEX_NAME, ImageIndex
from dspo_train.preferences import NewImage, PreferenceStore


def picture(number: int, size: tuple[int, int] = (16, 16), prompt: str = "", kind: str = "PNG", seed: int = 1) -> bytes:
    """Noise, with A1111's text where there is a prompt."""
    pixels = np.random.default_rng(number).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
    text = f"{prompt}\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: {seed}, Size: 16x16"
    options: dict[str, Any] = {}
    if prompt and kind == "PNG":
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_text("parameters", text)
    elif prompt:
        exif = Image.Exif()
        exif[0x8769] = {0x9286: b"UNICODE\0" + text.encode("utf-16-be")}
        options["exif"] = exif
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind, **options)
    return buffer.getvalue()


def put(folder: Path, name: str, data: bytes, age: float = 0) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (2e9 - age, 2e9 - age))
    return path


def picks(folder: Path, prompt: str, *numbers: int, size: tuple[int, int] = (16, 16)) -> list[Pick]:
    return [
        Pick(put(folder, f"{n}.png", picture(n, size)), prompt, Recipe(prompt, n, {"steps": 20, "n": n}), size)
        for n in numbers
    ]


def sizes(folder: Path) -> list[int]:
    return [len(group.images) for group in PreferenceStore(folder).groups()]


# Finding them


def test_images_are_found_newest_first_in_all_folders(tmp_path):
    for age, name in enumerate(("c.png", "a/b/d.WEBP", "a/e.jpeg", "ä ö.png")):
        put(tmp_path, name, b"x", age)
    for name in ("note.txt", ".hidden.png", ".git/x.png", "movie.mp4", "a/con.png", "a/b:c.png"):
        put(tmp_path, name, b"x")
    assert [it.name for it in images_below(tmp_path)] == ["c.png", "a/b/d.WEBP", "a/e.jpeg", "ä ö.png"]
    assert [it.name for it in images_below(tmp_path, lambda name: name != "a/b")] == ["c.png", "a/e.jpeg", "ä ö.png"]
    assert images_below(tmp_path / "missing") == []


def test_links_are_not_followed(tmp_path):
    outside = put(tmp_path / "outside", "secret.png", b"x").parent
    put(tmp_path / "root", "own.png", b"x")
    try:
        (tmp_path / "root" / "link").symlink_to(outside, target_is_directory=True)
        (tmp_path / "root" / "link.png").symlink_to(outside / "secret.png")
    except OSError:
        pytest.skip("this system does not let us make links")
    assert [it.name for it in images_below(tmp_path / "root")] == ["own.png"]


def test_groups_of_one_prompt_and_single_ones_last(tmp_path):
    put(tmp_path, "1.png", picture(1, prompt="a dog"), age=1)
    put(tmp_path, "2.jpg", picture(2, prompt="a fox", kind="JPEG", seed=7), age=2)
    put(tmp_path, "3.webp", picture(3, prompt="a fox", kind="WEBP", seed=8), age=3)
    put(tmp_path, "4.png", picture(4), age=4)
    put(tmp_path, "5.png", picture(5), age=5)
    put(tmp_path, "6.png", b"no image", age=6)
    album = read_album(ImageIndex(tmp_path / "index"), images_below(tmp_path), "output")
    assert [(g.prompt, [it.file.name for it in g.images]) for g in album.groups] == [
        ("a fox", ["2.jpg", "3.webp"]),
        ("", ["4.png", "5.png"]),
        ("a dog", ["1.png"]),
    ]
    assert [it.recipe.seed for it in album.groups[0].images] == [7, 8]
    assert album.groups[1].key == NO_PROMPT and album.group(album.groups[0].key) == album.groups[0]
    assert (album.read, album.total, album.unusable) == (6, 6, 1)


def test_what_is_known_better_than_the_file_counts(tmp_path):
    put(tmp_path, "1.png", picture(1, prompt="a dog"))
    album = read_album(ImageIndex(tmp_path / "i"), images_below(tmp_path), "", recipes={"1.png": Recipe("a fox", 3)})
    assert [(g.prompt, g.images[0].recipe.seed) for g in album.groups] == [("a fox", 3)]


# Reading them once


def test_files_are_read_once_and_again_when_they_change(tmp_path, monkeypatch):
    read = []
    from dspo_train.pairs import image_index

    real = image_index.image_metadata
    monkeypatch.setattr(image_index, "image_metadata", lambda path: (read.append(Path(path).name), real(path))[1])
    images, memory = tmp_path / "images", tmp_path / "memory"
    put(images, "1.png", picture(1, prompt="a dog"))
    put(images, "2.png", b"no image")

    def prompts(index: ImageIndex) -> list[str]:
        return [group.prompt for group in read_album(index, images_below(images), "output").groups]

    index = ImageIndex(memory)
    assert prompts(index) == prompts(index) == prompts(ImageIndex(memory)) == ["a dog"]
    assert sorted(read) == ["1.png", "2.png"]
    put(images, "1.png", picture(1, prompt="a fox"), age=1)
    assert prompts(index) == prompts(ImageIndex(memory)) == ["a fox"]
    assert sorted(read) == ["1.png", "1.png", "2.png"]


def test_a_damaged_memory_costs_only_time(tmp_path):
    put(tmp_path / "images", "1.png", picture(1, prompt="a dog", seed=2**64 - 1))
    put(tmp_path / "images", "2.png", picture(2, prompt="a fox"))
    album = read_album(ImageIndex(tmp_path), found := images_below(tmp_path / "images"), "output")
    memory = tmp_path / INDEX_NAME
    memory.write_bytes(memory.read_bytes()[:-40] + b'\n[1]\n{"key": 1}\n{"key": "x", "stamp": [1]}\n\xff\n')
    assert read_album(ImageIndex(tmp_path), found, "output") == album
    memory.unlink()
    memory.mkdir()  # cannot be read or written
    assert read_album(ImageIndex(tmp_path), found, "output") == album


def test_reading_stops_in_time_and_goes_on(tmp_path):
    for number in range(3):
        put(tmp_path / "images", f"{number}.png", picture(number, prompt="a dog"))
    index, found = ImageIndex(tmp_path), images_below(tmp_path / "images")
    first = read_album(index, found, "output", seconds=-1)
    assert (first.read, first.total, first.groups) == (0, 3, ())
    assert read_album(index, found, "output").read == 3
    assert read_album(index, found, "output", seconds=-1).read == 3


def test_the_memory_does_not_grow_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr("dspo_train.pairs.image_index._WASTE", 3)
    index = ImageIndex(tmp_path)
    for age in range(20):
        put(tmp_path / "images", "1.png", picture(1, prompt=f"dog {age}"), age)
        read_album(index, images_below(tmp_path / "images"), "output")
    lines = (tmp_path / INDEX_NAME).read_bytes().split()
    assert b"dog" in (tmp_path / INDEX_NAME).read_bytes() and len((tmp_path / INDEX_NAME).read_bytes()) < 2_000, lines
    assert (
        read_album(ImageIndex(tmp_path), images_below(tmp_path / "images"), "output", -1).groups[0].prompt == "dog 19"
    )


# Collecting them


def test_the_bytes_stay_as_they_are(tmp_path):
    """A PNG with its workflow, a JPEG and a WebP: none is encoded anew."""
    datas = [picture(1, prompt="x"), picture(2, kind="JPEG"), picture(3, kind="WEBP")]
    paths = [put(tmp_path / "in", f"{n}.bin", data) for n, data in enumerate(datas)]
    report = gather(
        tmp_path / "set", [Pick(path, "a fox", Recipe("a fox", 4 + n), (16, 16)) for n, path in enumerate(paths)]
    )
    (group,) = PreferenceStore(tmp_path / "set").groups()
    assert [(tmp_path / "set" / name).read_bytes() for name in group.names] == datas
    assert (group.prompt, group.schedule, [it.seed for it in group.images]) == ("a fox", "all", [4, 5, 6])
    assert (report.groups, report.added, report.already, report.alone, report.unreadable) == (1, 3, 0, 0, 0)
    assert report.taken == paths


def test_settings_that_all_share_are_noted(tmp_path):
    gather(tmp_path / "set", picks(tmp_path, "a fox", 1, 2), origin="output")
    (group,) = PreferenceStore(tmp_path / "set").groups()
    assert group.settings == {"steps": 20, "gathered": "output"}


def test_the_same_again_adds_nothing(tmp_path):
    found = picks(tmp_path, "a fox", 1, 2, 3)
    gather(tmp_path / "set", found)
    before = (tmp_path / "set" / "preferences.jsonl").read_bytes()
    for schedule in ("auto", "swiss"):
        report = gather(tmp_path / "set", found, schedule)
        assert (report.groups, report.added, report.already, report.taken) == (0, 0, 3, [it.path for it in found])
    assert (tmp_path / "set" / "preferences.jsonl").read_bytes() == before


def test_new_images_are_compared_with_each_other_only(tmp_path):
    """The pairs of the first three were asked already."""
    gather(tmp_path / "set", picks(tmp_path, "a fox", 1, 2, 3))
    report = gather(tmp_path / "set", picks(tmp_path, "a fox", 1, 2, 3, 4))
    assert (report.added, report.already, report.alone) == (0, 3, 1)
    report = gather(tmp_path / "set", picks(tmp_path, "a fox", 1, 2, 3, 4, 5))
    assert (report.added, report.already, report.alone) == (2, 3, 0)
    assert PreferenceStore(tmp_path / "set").progress().total == 3 + 1
    assert gather(tmp_path / "set", picks(tmp_path, "another fox", 1, 2)).added == 2


def test_images_that_a_node_collected_are_there_already(tmp_path):
    found = picks(tmp_path, "a fox", 1, 2)
    PreferenceStore(tmp_path / "set").add_group("a fox", [NewImage(picture(n, prompt="other file")) for n in (1, 2)])
    assert gather(tmp_path / "set", found).already == 2


def test_identical_images_count_once(tmp_path):
    """The same pixels in another file, with another workflow."""
    found = picks(tmp_path, "a fox", 1, 2)
    found.append(Pick(put(tmp_path, "copy.png", picture(1, prompt="x")), "a fox", size=(16, 16)))
    report = gather(tmp_path / "set", found)
    assert (report.added, report.already) == (2, 1)
    assert sizes(tmp_path / "set") == [2]


def test_a_known_image_is_not_decoded_again(tmp_path, monkeypatch):
    """The index remembers the hash of its pixels until the file changes."""
    from dspo_train.pairs import gathering

    decoded = []
    real = gathering.image_name
    monkeypatch.setattr(gathering, "image_name", lambda data: (decoded.append(1), real(data))[1])
    for number in range(3):
        put(tmp_path / "in", f"{number}.png", picture(number, prompt="a fox"), number)

    def collect() -> GatherReport:
        index = ImageIndex(tmp_path)
        (group,) = read_album(index, images_below(tmp_path / "in"), "output").groups
        report = gather(
            tmp_path / "set",
            [
                Pick(
                    Path(it.file.path),
                    "a fox",
                    size=it.size,
                    pixels=index.pixels(it.key, it.file),
                    learned=partial(index.note_pixels, it.key, it.file),
                )
                for it in group.images
            ],
        )
        index.save()
        return report

    assert (collect().added, len(decoded)) == (3, 3)
    assert (collect().already, len(decoded)) == (3, 3)
    put(tmp_path / "in", "1.png", picture(9, prompt="a fox"), 1.5)
    put(tmp_path / "in", "5.png", picture(5, prompt="a fox"), 5)
    report = collect()
    assert (report.already, report.added, len(decoded)) == (2, 2, 5)


def test_nothing_to_compare_makes_no_set(tmp_path):
    found = [*picks(tmp_path, "a fox", 1), *picks(tmp_path, "a dog", 2)]
    assert gather(tmp_path / "set", found) == GatherReport(alone=2)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("schedule", "count", "expected"),
    [
        ("auto", 9, [9]),
        ("auto", 10, [5, 5]),
        ("auto", 28, [7, 7, 7, 7]),
        ("all", 64, [64]),
        ("swiss", 65, [32, 33]),
        ("neighbours", 130, [43, 43, 44]),
    ],
)
def test_many_images_of_one_prompt_are_split(schedule, count, expected):
    images = {str(n): Pick(Path(str(n)), "a fox", size=(16, 16)) for n in range(count)}
    parts = planned(images, schedule)
    assert [len(part) for part in parts] == expected
    assert [name for part in parts for name in part] == list(images)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("aabb", ["aa", "bb"]),
        ("abab", ["aa", "bb"]),
        ("aabc", ["aa", "bc"]),
        ("aab", ["aab"]),
        ("abc", ["abc"]),
        ("ab", ["ab"]),
        ("a", []),
        ("", []),
        ("aaaaaaaaab", ["aaaaa", "aaaab"]),
    ],
)
def test_equal_sizes_are_compared_first(given, expected):
    images = {f"{letter}{n}": Pick(Path("x"), "p", size=(ord(letter), 1)) for n, letter in enumerate(given)}
    assert ["".join(name[0] for name in part) for part in planned(images, "auto")] == expected


def test_damaged_and_missing_files_are_left_out(tmp_path):
    found = picks(tmp_path, "a fox", 1, 2, 3, 4)
    found[0].path.write_bytes(found[0].path.read_bytes()[:-30])
    found[1].path.unlink()
    report = gather(tmp_path / "set", found)
    assert (report.added, report.unreadable) == (2, 2)


def test_progress_reaches_the_end_and_can_stop_it(tmp_path):
    told: list[tuple[int, int]] = []
    found = [*picks(tmp_path, "a fox", *range(12)), *picks(tmp_path, "a dog", 20), *picks(tmp_path, "a cat", 21, 22)]
    gather(tmp_path / "all", found, progress=lambda done, total: told.append((done, total)))
    assert told[0] == (0, 15) and told[-1] == (15, 15) and told == sorted(told)

    def until_six(done: int, total: int) -> None:
        if done >= 6:
            raise CancelledError

    report = GatherReport()
    with pytest.raises(CancelledError):
        gather(tmp_path / "part", found, progress=until_six, report=report)
    assert (report.groups, report.added, sizes(tmp_path / "part")) == (1, 6, [6])
    assert (gather(tmp_path / "part", found).already, sizes(tmp_path / "part")) == (6, [6, 6, 2])


# Crashes and full disks

COLLECTOR = """
import sys
from pathlib import Path
from dspo_train.pairs.gathering import Pick, gather
found = sorted(Path(sys.argv[1]).iterdir())
picks = [Pick(path, path.name[0], size=(16, 16)) for path in found]
gather(Path(sys.argv[2]), picks, progress=lambda done, total: print(done, flush=True))
"""


@pytest.mark.slow
def test_killed_while_collecting_leaves_whole_groups_and_goes_on(tmp_path):
    """A real process, killed after 30 and 150 images; then run to its end."""
    for number in range(240):
        put(tmp_path / "in", f"{'abcdefgh'[number // 30]}{number:03}.png", picture(number))
    command = [sys.executable, "-c", COLLECTOR, str(tmp_path / "in"), str(tmp_path / "set")]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    for most in (30, 150):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
        assert process.stdout is not None
        while (line := process.stdout.readline()) and int(line) < most:
            pass
        process.kill()
        process.wait()
        process.stdout.close()
        store = PreferenceStore(tmp_path / "set")
        assert store.broken() == []
        for group in store.groups():
            assert len(group.images) in (7, 8)
            for name in group.names:
                Image.open(tmp_path / "set" / name).load()
    subprocess.run(command, check=True, env=env, stdout=subprocess.DEVNULL)
    store = PreferenceStore(tmp_path / "set")
    assert [len(group.images) for group in store.groups()] == [7, 8, 7, 8] * 8
    assert len({name for group in store.groups() for name in group.names}) == 240
    whole = [path for path in (tmp_path / "set" / "images").iterdir() if not path.name.startswith(".")]
    assert len(whole) == 240 and {path.stat().st_size for path in whole} == {len(picture(n)) for n in range(240)}


@pytest.mark.parametrize("room", [0, 3, 8])
def test_a_full_disk_is_one_error_and_nothing_half(tmp_path, monkeypatch, room):
    """There is room for so many more flushes; then there is room again."""
    found = [*picks(tmp_path, "a fox", *range(5)), *picks(tmp_path, "a dog", *range(10, 15))]
    gather(tmp_path / "set", picks(tmp_path, "a cat", 20, 21))
    real, left = os.fsync, [room]

    def full(handle: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(RunError, match="the disk is full"):
            gather(tmp_path / "set", found)
    assert sizes(tmp_path / "set") == ([2, 5] if room == 8 else [2])
    assert PreferenceStore(tmp_path / "set").broken() == []
    for path in (tmp_path / "set" / "images").iterdir():
        Image.open(path).load()
    gather(tmp_path / "set", found)
    assert sizes(tmp_path / "set") == [2, 5, 5]


def test_memory_holds_one_image_at_a_time(tmp_path, monkeypatch):
    """The store reads each image of a group when it writes it."""
    from dspo_train.pairs import gathering

    events: list[str] = []
    real_read, real_write = gathering._bytes, os.replace
    monkeypatch.setattr(gathering, "_bytes", lambda path: (events.append("read"), real_read(path))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (events.append("write"), real_write(a, b))[1])
    gather(tmp_path / "set", picks(tmp_path, "a fox", *range(6)))
    assert events[-12:] == ["read", "write"] * 6


@pytest.mark.slow
def test_ten_thousand_names_are_looked_at_quickly(tmp_path):
    """Known files cost no reading: well under a second for ten thousand."""
    first = put(tmp_path / "in", "0.png", picture(1, prompt="a fox"))
    for number in range(1, 10_000):
        os.link(first, tmp_path / "in" / f"{number}.png")
    index = ImageIndex(tmp_path)
    read_album(index, images_below(tmp_path / "in"), "output")
    start = time.process_time()
    album = read_album(index, images_below(tmp_path / "in"), "output")
    assert time.process_time() - start < 2
    assert len(album.groups[0].images) == 10_000
