"""Every way a dataset can be broken that we know of, and what the user is told about it."""

import json
import os
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from dspo_train.exceptions import DatasetError
from dspo_train.pairs import scan_pairs


def picture(path: Path, shade: int, size=(64, 64)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, 255 - shade, 90)).save(path)


def pair(folder: Path, name: str = "a", shade: int = 1, size=(64, 64)) -> None:
    picture(folder / f"{name}_w.png", shade, size)
    picture(folder / f"{name}_l.png", shade + 1, size)
    (folder / f"{name}.txt").write_text("a prompt")


def cut(path: Path, keep: float, encoding: str = "PNG") -> None:
    """Save again and keep the first part: a share of the bytes, or a number of them."""
    with Image.open(path) as image:
        image = image.copy()
    image.save(path, format=encoding)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(keep if keep > 1 else len(raw) * keep)])


def append(path: Path, more: bytes) -> None:
    path.write_bytes(path.read_bytes() + more)


def header_only_png(path: Path, width: int, height: int) -> None:
    """A structurally whole PNG of any claimed size."""
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"")),
        (b"IEND", b""),
    )
    body = b"".join(len(d).to_bytes(4, "big") + k + d + zlib.crc32(k + d).to_bytes(4, "big") for k, d in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def row(**changes) -> str:
    """One line of a table over a.png and b.png; None removes a key."""
    whole = {"prompt": "x", "image_0": "a.png", "image_1": "b.png", "preference": 0, **changes}
    return json.dumps({key: value for key, value in whole.items() if value is not None})


def table(folder: Path, *lines: str, name: str = "metadata.jsonl") -> None:
    picture(folder / "a.png", 1)
    picture(folder / "b.png", 2)
    (folder / name).write_text("\n".join(lines), encoding="utf-8")


def outside_link(folder: Path) -> None:
    if os.name == "nt":
        pytest.skip("links need a privilege on Windows")
    picture(folder.parent / "secret.png", 9)
    table(folder, row(image_1="link.png"), row())
    (folder / "link.png").symlink_to(folder.parent / "secret.png")


Build = Callable[[Path], object]


def unreadable(folder: Path, build: Build) -> None:
    """A good pair and one whose winner `build` spoils."""
    pair(folder, "good", 1)
    pair(folder, "bad", 3)
    build(folder)


def write(name: str, content: bytes) -> Build:
    return lambda folder: (folder / name).write_bytes(content)


# What a whole folder is refused for, and the words that say so.
REFUSED: dict[str, tuple[Build, str]] = {
    "missing": (lambda f: f.rmdir(), r"no such folder; check the spelling"),
    "a file": (lambda f: (f.rmdir(), f.write_text("x")), r"is a file; name the folder that holds the images"),
    "empty": (lambda f: None, r"the folder is empty; put images"),
    "only a hidden file": (lambda f: (f / ".x").write_text(""), r"the folder is empty"),
    "no pictures": (lambda f: (f / "a.txt").write_text("x"), r"holds no PNG, JPEG or WebP image"),
    "only foreign pictures": (
        lambda f: (f / "a_w.gif").write_bytes(b"GIF89a"),
        r"holds no PNG(.|\n)*a_w\.gif: \.gif images are not read; save it as PNG, JPEG or WebP",
    ),
    "no known layout": (
        lambda f: (picture(f / "one.png", 1), picture(f / "two.png", 2)),
        r"cannot tell who won from names such as one\.png, two\.png; known layouts: name_w\.png",
    ),
    "only ties": (
        lambda f: table(f, row(preference="tie"), row(preference=0.5)),
        r"all 2 pairs are ties, so there is no preference to learn",
    ),
    "empty table": (lambda f: table(f, "", ""), r"metadata\.jsonl: holds no rows"),
    "empty csv": (
        lambda f: table(f, name="metadata.csv"),
        r"metadata\.csv:1: the header lacks image_0 .* found nothing",
    ),
    "table without pictures": (
        lambda f: (f / "metadata.jsonl").write_text(row()),
        r"metadata\.jsonl is there, but no PNG",
    ),
    "csv without a preference": (
        lambda f: table(f, "prompt,image_0,image_1", "x,a.png,b.png", name="metadata.csv"),
        r"metadata\.csv:1: the header lacks a preference \(.*\); found prompt, image_0, image_1",
    ),
    "csv of another kind": (
        lambda f: table(f, "file_name,text", "a.png,x", name="metadata.csv"),
        r"lacks image_0 and image_1 and a preference .*; found file_name, text",
    ),
    "csv in a Windows code page": (
        lambda f: (table(f), (f / "metadata.jsonl").unlink(), (f / "metadata.csv").write_bytes(
            "prompt,image_0,image_1,preference\né,a.png,b.png,0\n".encode("cp1252"))),
        r"metadata\.csv: is not UTF-8 text .*save it as 'CSV UTF-8'",
    ),
    "jsonl in UTF-16": (
        lambda f: (table(f), (f / "metadata.jsonl").write_bytes(row().encode("utf-16"))),
        r"metadata\.jsonl: is UTF-16 text; save it as UTF-8",
    ),
    "one endless line": (lambda f: table(f, "[" * (1 << 20)), r"metadata\.jsonl:1: is longer than a megabyte"),
    "parquet that is none": (lambda f: (f / "x.parquet").write_bytes(b"PAR1"), r"x\.parquet: (cannot be read|reading)"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_folders_that_are_refused(tmp_path, name):
    build, message = REFUSED[name]
    folder = tmp_path / "data"
    folder.mkdir()
    build(folder)
    with pytest.raises(DatasetError, match=message) as caught:
        scan_pairs(folder).usable()
    assert str(folder) in str(caught.value)


# What one pair is left out for: kind, place, and the words that say so. One pair is always left.
DEFECTS: dict[str, tuple[Build, str, str, str]] = {
    "no loser": (
        lambda f: (pair(f), picture(f / "b_w.png", 5)),
        "partner_missing", "b_w.png", r"a winner without its loser; add b_l\.png",
    ),
    "no winner in a folder": (
        lambda f: (picture(f / "chosen/a.png", 1), picture(f / "Rejected/a.png", 2), picture(f / "Rejected/b.png", 3),
                   (f / "a.txt").write_text("x")),
        "partner_missing", "Rejected/b.png", r"a loser without its winner; add chosen/b\.png",
    ),
    "mixed marks": (
        lambda f: (pair(f), picture(f / "b_w.png", 5), picture(f / "b_rejected.png", 6)),
        "partner_missing", "b_rejected.png", r"add b_chosen\.png",
    ),
    "a set of one": (
        lambda f: (picture(f / "a_0.png", 1), picture(f / "a_1.png", 2), (f / "a.txt").write_text("x"),
                   picture(f / "b_0.png", 3)),
        "partner_missing", "b_0.png", r"no second image to compare with; add b_1",
    ),
    "a set without its best": (
        lambda f: (picture(f / "a_0.png", 1), picture(f / "a_1.png", 2), (f / "a.txt").write_text("x"),
                   picture(f / "b_1.png", 3), picture(f / "b_2.png", 4)),
        "ranked_set", "b_1.png", r"starts with its best image, b_0, but the first here is _1; rename",
    ),
    "numbered, not ranked": (
        lambda f: (picture(f / "a_0.png", 1), picture(f / "a_1.png", 2), (f / "a.txt").write_text("x"),
                   [picture(f / f"img_{n:05}.png", 3 + n) for n in range(17)]),
        "ranked_set", "img_00000.png", r"17 files named img_N look numbered rather than ranked",
    ),
    "two winners of one name": (
        lambda f: (pair(f), pair(f, "b", 5), picture(f / "b_w.jpg", 9)),
        "ambiguous_name", "b_w.jpg", r"several images have this name \(also b_w\.png\); keep one",
    ),
    "same rank twice": (
        lambda f: (picture(f / "a_0.png", 1), picture(f / "a_1.png", 2), (f / "a.txt").write_text("x"),
                   picture(f / "b_0.png", 3), picture(f / "b_1.png", 4), picture(f / "b_01.png", 5)),
        "ambiguous_name", "b_01.png", r"several images have this name \(also b_1\.png\)",
    ),
    "empty file": (
        lambda f: unreadable(f, write("bad_w.png", b"")),
        "unreadable_image", "bad_w.png", r"is an empty file",
    ),
    "a web page": (
        lambda f: unreadable(f, write("bad_w.png", b"<!doctype html><html>")),
        "unreadable_image", "bad_w.png", r"is not a PNG, JPEG or WebP image \(it starts with b'<!doctyp'\)",
    ),
    "half a PNG": (
        lambda f: unreadable(f, lambda f: cut(f / "bad_w.png", 0.5)),
        "unreadable_image", "bad_w.png", r"is cut off: \d+ bytes of at least \d+; copy or save it again",
    ),
    "zeros after half a PNG": (
        lambda f: unreadable(f, lambda f: (cut(f / "bad_w.png", 33), append(f / "bad_w.png", bytes(500)))),
        "unreadable_image", "bad_w.png", r"is damaged at byte 33 \(no PNG chunk there\)",
    ),
    "half a JPEG": (
        lambda f: unreadable(f, lambda f: cut((f / "bad_w.png").rename(f / "bad_w.jpg"), 0.97, "JPEG")),
        "unreadable_image", "bad_w.jpg", r"is cut off \(a JPEG without its end marker\)",
    ),
    "half a WebP": (
        lambda f: unreadable(f, lambda f: cut((f / "bad_w.png").rename(f / "bad_w.webp"), 0.7, "WEBP")),
        "unreadable_image", "bad_w.webp", r"is cut off: \d+ bytes of at least",
    ),
    "over 64 megapixels": (
        lambda f: unreadable(f, lambda f: header_only_png(f / "bad_w.png", 8001, 8000)),
        "bad_size", "bad_w.png", r"8001x8000 pixels is over 64 megapixels; scale",
    ),
    "a side too long": (
        lambda f: unreadable(f, lambda f: header_only_png(f / "bad_w.png", 16385, 3000)),
        "bad_size", "bad_w.png", r"16385x3000 pixels: a side is over 16384",
    ),
    "a side too short": (
        lambda f: unreadable(f, lambda f: picture(f / "bad_w.png", 1, (63, 64))),
        "bad_size", "bad_w.png", r"63x64 pixels: a side is under 64; use a larger image",
    ),
    "too narrow": (
        lambda f: unreadable(f, lambda f: picture(f / "bad_w.png", 1, (257, 64))),
        "bad_size", "bad_w.png", r"257x64 pixels is over 4 times as wide as high; crop",
    ),
    "no pixels at all": (
        lambda f: unreadable(f, lambda f: header_only_png(f / "bad_w.png", 0, 64)),
        "unreadable_image", "bad_w.png", r"claims to be 0x64 pixels",
    ),
    "no caption": (
        lambda f: unreadable(f, lambda f: (f / "bad.txt").unlink()),
        "no_caption", "bad_w.png", r"no caption file with text, and no prompt in the image's metadata; write",
    ),
    "blank caption": (
        lambda f: unreadable(f, write("bad.txt", b" \n\t")),
        "no_caption", "bad_w.png", r"no caption file with text",
    ),
    "caption in a code page": (
        lambda f: unreadable(f, write("bad.txt", "déjà".encode("cp1252"))),
        "bad_caption", "bad.txt", r"is not UTF-8 text \(byte 2\); save it as UTF-8",
    ),
    "binary caption": (
        lambda f: unreadable(f, write("bad.txt", b"a\0b")),
        "bad_caption", "bad.txt", r"holds zero bytes, so it is not text",
    ),
    "a book as caption": (
        lambda f: unreadable(f, write("bad.txt", b"x" * 70_000)),
        "bad_caption", "bad.txt", r"is over 64 KB, too long for a caption",
    ),
    "caption is a folder": (
        lambda f: unreadable(f, lambda f: ((f / "bad.txt").unlink(), (f / "bad.txt").mkdir())),
        "no_caption", "bad_w.png", r"no caption file",
    ),
    "same file twice": (
        lambda f: table(f, row(), row(image_1="a.png")),
        "same_image", "metadata.jsonl:2", r"are the same file \(a\.png\); name two different images",
    ),
    "same picture twice": (
        lambda f: (pair(f), picture(f / "b_w.png", 7), picture(f / "b_l.png", 7), (f / "b.txt").write_text("x")),
        "same_image", "b_w.png", r"are the same image \(b_w\.png, b_l\.png\); replace one",
    ),
    "copies that contradict": (
        lambda f: (pair(f), picture(f / "b_w.png", 5), picture(f / "b_l.png", 6), picture(f / "c_w.png", 6),
                   picture(f / "c_l.png", 5), [(f / f"{n}.txt").write_text("x") for n in "bc"]),
        "contradicting_labels", "b_w.png", r"contradicts c_w\.png, which ranks the same two images",
    ),
    "a pair twice": (
        lambda f: (pair(f), pair(f, "b", 1)),
        "duplicate_pair", "b_w.png", r"repeats a_w\.png: same images, same winner",
    ),
    "not JSON": (
        lambda f: table(f, row(), "{'prompt': 1}"),
        "bad_metadata", "metadata.jsonl:2", r"is not valid JSON \(.*\); each line holds one object, such as \{",
    ),
    "JSON nested without end": (
        lambda f: table(f, row(), "[" * 200_000),
        "bad_metadata", "metadata.jsonl:2", r"is not valid JSON",
    ),
    "JSON, but a list": (
        lambda f: table(f, row(), "[1, 2]"),
        "bad_metadata", "metadata.jsonl:2", r"is \[1, 2\] instead of an object",
    ),
    "no preference": (
        lambda f: table(f, row(), row(preference=None)),
        "bad_metadata", "metadata.jsonl:2", r"has no preference; add a 'preference' of 0, 1 or .* \(columns: prompt,",
    ),
    "a preference of 2": (
        lambda f: table(f, row(), row(preference=2)),
        "bad_metadata", "metadata.jsonl:2", r"preference is 2; it must be 0 \(image_0 won\), 1 \(image_1 won\) or tie",
    ),
    "a preference of true": (
        lambda f: table(f, row(), row(preference=True)),
        "bad_metadata", "metadata.jsonl:2", r"preference is true; it must be 0, 1 or tie",
    ),
    "a preference in words": (
        lambda f: table(f, row(), row(preference="left")),
        "bad_metadata", "metadata.jsonl:2", r'preference is "left"; it must be',
    ),
    "a preference of NaN": (
        lambda f: table(f, row(), row(preference=float("nan"))),
        "bad_metadata", "metadata.jsonl:2", r"preference is NaN",
    ),
    "soft labels": (
        lambda f: table(f, row(), row(preference=None, label_0=0.8, label_1=0.2)),
        "bad_metadata", "metadata.jsonl:2", r"label_0 is 0\.8; it must be 1 \(won\), 0 \(lost\) or 0\.5",
    ),
    "both won": (
        lambda f: table(f, row(), row(preference=None, label_0=1, label_1=1)),
        "bad_metadata", "metadata.jsonl:2", r"columns disagree on who won \(label_0 = 1, label_1 = 1\)",
    ),
    "columns that disagree": (
        lambda f: table(f, row(), row(preference=1, label_0=1)),
        "bad_metadata", "metadata.jsonl:2", r"disagree on who won \(preference = 1, label_0 = 1\)",
    ),
    "no pictures named": (
        lambda f: table(f, row(), row(image_0=None, image_1=None)),
        "bad_metadata", "metadata.jsonl:2", r"names no images; add image_0 and image_1",
    ),
    "a number as picture": (
        lambda f: table(f, row(), row(image_1=3)),
        "bad_metadata", "metadata.jsonl:2", r"image_1 is 3; it must be the path of an image",
    ),
    "a number as prompt": (
        lambda f: table(f, row(), row(prompt=3)),
        "bad_metadata", "metadata.jsonl:2", r"the prompt is 3; it must be text",
    ),
    "picture not there": (
        lambda f: table(f, row(), row(image_1="c.png")),
        "missing_file", "metadata.jsonl:2", r'image_1: there is no image "c\.png" here; check the spelling',
    ),
    "parent folder": (
        lambda f: (picture(f.parent / "up.png", 3), table(f, row(), row(image_1="../up.png"))),
        "outside_folder", "metadata.jsonl:2", r'image_1 is "\.\./up\.png", which leads out of the dataset folder',
    ),
    "absolute path": (
        lambda f: table(f, row(), row(image_1="/etc/b.png")),
        "outside_folder", "metadata.jsonl:2", r"leads out of the dataset folder; copy the image into the folder",
    ),
    "absolute path to a file inside": (
        lambda f: table(f, row(), row(image_1="/b.png")),
        "outside_folder", "metadata.jsonl:2", r"leads out",
    ),
    "drive letter": (
        lambda f: table(f, row(), row(image_1="C:\\pics\\b.png")),
        "outside_folder", "metadata.jsonl:2", r"leads out",
    ),
    "network share": (
        lambda f: table(f, row(), row(image_1="\\\\host\\pics\\b.png")),
        "outside_folder", "metadata.jsonl:2", r"leads out",
    ),
    "web address": (
        lambda f: table(f, row(), row(image_1="https://example.com/b.png")),
        "outside_folder", "metadata.jsonl:2", r"leads out",
    ),
    "link that leads out": (
        outside_link,
        "outside_folder", "link.png", r"is a link out of the dataset folder; copy the file",
    ),
    "csv row too short": (
        lambda f: table(f, "prompt,image_0,image_1,preference", "x,a.png,b.png,0", "x,a.png", name="metadata.csv"),
        "bad_metadata", "metadata.csv:3", r"2 values for 4 columns; put quotes",
    ),
    "csv with an unclosed quote": (
        lambda f: table(f, "prompt,image_0,image_1,preference", "x,a.png,b.png,0", '"x,a.png', name="metadata.csv"),
        "bad_metadata", "metadata.csv:3", r"is not a valid record \(.*\); look for an unclosed quote",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DEFECTS)
def test_pairs_that_are_left_out(tmp_path, name):
    build, kind, where, message = DEFECTS[name]
    folder = tmp_path / "data"
    folder.mkdir()
    build(folder)
    scan = scan_pairs(folder)
    assert len(scan.usable()) == 1, scan.defects
    assert kind in {d.kind for d in scan.defects}, scan.defects
    defect = next(d for d in scan.defects if d.kind == kind)
    assert (defect.where, defect.fatal) == (where, True)
    assert re.search(message, defect.message), defect.message


def test_zeros_in_a_jpeg_are_a_warning(tmp_path):
    picture(tmp_path / "a_l.png", 2, (256, 256))
    noise = Image.effect_noise((256, 256), 90).convert("RGB")
    noise.save(tmp_path / "a_w.jpg", quality=95)
    (tmp_path / "a.txt").write_text("x")
    raw = bytearray((tmp_path / "a_w.jpg").read_bytes())
    raw[-900:-600] = bytes(300)
    (tmp_path / "a_w.jpg").write_bytes(raw)
    scan = scan_pairs(tmp_path)
    assert len(scan.pairs) == 1
    assert [(d.kind, d.where, d.fatal) for d in scan.defects] == [("doubtful_image", "a_w.jpg", False)]


def test_what_a_decoder_warns_of_is_told_by_a_deep_scan(tmp_path):
    """EXIF that is cut short: Pillow warns and goes on."""
    pair(tmp_path)
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01"
    Image.new("RGB", (64, 64), (9, 9, 9)).save(tmp_path / "a_w.jpg", exif=exif)
    (tmp_path / "a_w.png").unlink()
    scan = scan_pairs(tmp_path, deep=True)
    assert len(scan.pairs) == 1
    assert [(d.kind, d.where, d.fatal) for d in scan.defects] == [("doubtful_image", "a_w.jpg", False)]
    assert "its decoder warns: " in scan.defects[0].message


def test_shapes_that_differ_are_a_warning(tmp_path):
    """96/64 = 1.5 differs from 1; 68/64 = 1.06 does not count."""
    pair(tmp_path, "a")
    picture(tmp_path / "a_l.png", 9, (96, 64))
    pair(tmp_path, "b", 20)
    picture(tmp_path / "b_l.png", 30, (68, 64))
    scan = scan_pairs(tmp_path)
    assert len(scan.pairs) == 2
    assert [(d.kind, d.where, d.fatal) for d in scan.defects] == [("aspect_mismatch", "a_w.png", False)]
    assert "winner 64x64 and loser 96x64" in scan.defects[0].message


def test_folders_that_cannot_be_read(tmp_path, monkeypatch):
    pair(tmp_path)
    (tmp_path / "locked").mkdir()
    scandir = os.scandir

    def refuse(path):
        if Path(path).name in blocked:
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    blocked = {"locked"}
    scan = scan_pairs(tmp_path)
    assert [(d.kind, d.where) for d in scan.defects] == [("unreadable_folder", "locked/")]
    assert len(scan.pairs) == 1
    blocked = {tmp_path.name}
    with pytest.raises(DatasetError, match=r"the folder cannot be read \(Permission denied\)"):
        scan_pairs(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="Windows names are always Unicode")
def test_names_that_are_not_unicode(tmp_path):
    pair(tmp_path)
    try:
        (tmp_path / os.fsdecode(b"b\xff_w.png")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system allows Unicode names only")
    scan = scan_pairs(tmp_path)
    assert [(d.kind, d.where) for d in scan.defects] == [("bad_name", r"b\udcff_w.png")]
    assert len(scan.pairs) == 1


def test_a_file_that_vanishes_during_the_scan(tmp_path, monkeypatch):
    pair(tmp_path)
    pair(tmp_path, "b", 5)
    from dspo_train.pairs import checks

    inspect = checks.inspect_image

    def vanish(path):
        (tmp_path / "b_l.png").unlink(missing_ok=True)
        return inspect(path)

    monkeypatch.setattr(checks, "inspect_image", vanish)
    scan = scan_pairs(tmp_path)
    assert [(d.kind, d.where) for d in scan.defects] == [("unreadable_image", "b_l.png")]
    assert "cannot be opened (No such file or directory)" in scan.defects[0].message
