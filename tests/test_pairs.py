import json
import os
import unicodedata
import zlib
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from dspo_train.exceptions import DatasetError
from dspo_train.pairs import scan_pairs


def picture(path: Path, shade: int, size=(64, 64), **options) -> None:
    """A plain picture; another shade is another picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, 255 - shade, 90)).save(path, **options)


def fill(folder: Path, files: dict) -> Path:
    """Pictures by shade, texts by content."""
    for name, content in files.items():
        if isinstance(content, int):
            picture(folder / name, content)
        else:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content, encoding="utf-8")
    return folder


def damage(path: Path, *, checksum: bool) -> None:
    """Flip a byte inside a PNG's compressed pixels; with the chunk's checksum corrected, only decoding shows it."""
    raw = bytearray(path.read_bytes())
    place = raw.index(b"IDAT")
    raw[place + 20] ^= 255
    if checksum:
        end = place + 4 + int.from_bytes(raw[place - 4 : place], "big")
        raw[end : end + 4] = zlib.crc32(raw[place:end]).to_bytes(4, "big")
    path.write_bytes(raw)


def found(scan) -> list:
    """(key, prompt, winner, loser) of each pair, with paths below the folder."""
    names = [
        (p.winner.relative_to(scan.folder).as_posix(), p.loser.relative_to(scan.folder).as_posix()) for p in scan.pairs
    ]
    return [(p.key, p.prompt, *n) for p, n in zip(scan.pairs, names, strict=True)]


def kinds(scan) -> list:
    return [defect.kind for defect in scan.defects]


LAYOUTS = {
    "suffixes": ({"cat_w.png": 1, "cat_l.jpg": 2, "cat.txt": "a cat"}, [("cat", "a cat", "cat_w.png", "cat_l.jpg")]),
    "suffixes, winner's caption": (
        {"cat_win.webp": 1, "cat_lose.png": 2, "cat_win.txt": "a cat"},
        [("cat", "a cat", "cat_win.webp", "cat_lose.png")],
    ),
    "suffixes, any case and nested": (
        {"a b/Cat_CHOSEN.PNG": 1, "a b/Cat_Rejected.JPEG": 2, "a b/Cat.TXT": "x"},
        [("a b/Cat", "x", "a b/Cat_CHOSEN.PNG", "a b/Cat_Rejected.JPEG")],
    ),
    "suffixes after a number": (
        {"cat_0_w.png": 1, "cat_0_l.png": 2, "cat_0.txt": "x"},
        [("cat_0", "x", "cat_0_w.png", "cat_0_l.png")],
    ),
    "suffixes after a suffix": (
        {"a_w_w.png": 1, "a_w_l.png": 2, "a_w.txt": "x"},
        [("a_w", "x", "a_w_w.png", "a_w_l.png")],
    ),
    "subfolders": (
        {"chosen/cat.png": 1, "rejected/cat.webp": 2, "chosen/cat.txt": "a cat", "rejected/cat.txt": "no"},
        [("cat", "a cat", "chosen/cat.png", "rejected/cat.webp")],
    ),
    "subfolders, nested below, caption at the loser": (
        {"Win/a/cat.png": 1, "LOSE/a/cat.png": 2, "LOSE/a/cat.txt": "a cat"},
        [("a/cat", "a cat", "Win/a/cat.png", "LOSE/a/cat.png")],
    ),
    "subfolders inside folders, caption beside them": (
        {"set 1/w/cat.png": 1, "set 1/l/cat.png": 2, "set 1/cat.txt": "a cat"},
        [("set 1/cat", "a cat", "set 1/w/cat.png", "set 1/l/cat.png")],
    ),
    "ranked": (
        {"cat_0.png": 1, "cat_1.png": 2, "cat_2.png": 3, "cat.txt": "x"},
        [
            ("cat#0>1", "x", "cat_0.png", "cat_1.png"),
            ("cat#0>2", "x", "cat_0.png", "cat_2.png"),
            ("cat#1>2", "x", "cat_1.png", "cat_2.png"),
        ],
    ),
    "ranked, named like a side": (
        {"cat_w_0.png": 1, "cat_w_1.png": 2, "cat_w.txt": "x"},
        [("cat_w#0>1", "x", "cat_w_0.png", "cat_w_1.png")],
    ),
    "ranked, own captions": (
        {"s/cat_0.png": 1, "s/cat_1.png": 2, "s/cat_0.txt": "x"},
        [("s/cat#0>1", "x", "s/cat_0.png", "s/cat_1.png")],
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_by_name(tmp_path, name):
    files, expected = LAYOUTS[name]
    scan = scan_pairs(fill(tmp_path, files))
    assert found(scan) == expected
    assert scan.layout == name.split(",")[0].split()[0]
    others = [defect for defect in scan.defects if "differs from" not in defect.message]
    assert (scan.ties, others) == (0, [])


A_B = {"a.png": 1, "b.png": 2}
WINS = [("a.png>b.png", "x", "a.png", "b.png")]
LOSES = [("b.png>a.png", "x", "b.png", "a.png")]
ROW = {"prompt": "x", "image_0": "a.png", "image_1": "b.png"}


@pytest.mark.parametrize(
    "label, expected",
    [
        ({"preference": 0}, WINS),
        ({"preference": 1}, LOSES),
        ({"preference": "0"}, WINS),
        ({"preference": 1.0}, LOSES),
        ({"preference": "image_1"}, LOSES),
        ({"label": 0}, WINS),
        ({"label_0": 1, "label_1": 0}, WINS),
        ({"label_0": 0.0, "label_1": 1.0, "has_label": True}, LOSES),
        ({"label_0": 1}, WINS),
        ({"label_1": 1}, LOSES),
        ({"prefer_0": True, "prefer_1": False}, WINS),
        ({"prefer_0": False, "prefer_1": True}, LOSES),
        ({"preference": 0, "label_0": 1}, WINS),
    ],
)
def test_who_won_in_a_table(tmp_path, label, expected):
    scan = scan_pairs(fill(tmp_path, {**A_B, "metadata.jsonl": json.dumps({**ROW, **label})}))
    assert found(scan) == expected
    assert (scan.layout, scan.ties, scan.defects) == ("metadata", 0, ())


@pytest.mark.parametrize(
    "label",
    [
        {"preference": "tie"},
        {"preference": " TIE "},
        {"preference": 0.5},
        {"label": "0.5"},
        {"label_0": 0.5, "label_1": 0.5},
        {"prefer_0": False, "prefer_1": False},
    ],
)
def test_ties_are_left_out_and_counted(tmp_path, label):
    rows = [{**ROW, "preference": 0}, {**ROW, **label}]
    scan = scan_pairs(fill(tmp_path, {**A_B, "metadata.jsonl": "\n".join(map(json.dumps, rows))}))
    assert (found(scan), scan.ties, scan.defects) == (WINS, 1, ())


@pytest.mark.parametrize("label", [{"has_label": False, "label_0": 0.5}, {"preference": None}, {"prefer_0": None}])
def test_unjudged_rows_are_a_warning(tmp_path, label):
    rows = [{**ROW, "preference": 0}, {**ROW, **label}, {**ROW, **label}]
    scan = scan_pairs(fill(tmp_path, {**A_B, "metadata.jsonl": "\n".join(map(json.dumps, rows))}))
    assert (found(scan), scan.ties, kinds(scan)) == (WINS, 0, ["unlabelled"])
    assert str(scan.defects[0]).startswith("metadata.jsonl:2: 2 rows from here on")
    assert not scan.defects[0].fatal


@pytest.mark.parametrize(
    "table",
    [
        "prompt,image_0,image_1,preference\nx,a.png,b.png,0\n",
        "\ufeffcaption;image_1;image_0;label\r\nx;b.png;a.png;0\r\n\r\n",
        'label_0\tlabel_1\tjpg_0\tjpg_1\ttext\n1\t0\t"a.png"\t.\\b.png\tx\n',
    ],
)
def test_csv_dialects(tmp_path, table):
    scan = scan_pairs(fill(tmp_path, {**A_B, "metadata.csv": table}))
    assert (found(scan), scan.defects) == (WINS, ())


def test_csv_place_of_a_defect_counts_lines_inside_quotes(tmp_path):
    table = 'prompt,image_0,image_1,preference\n"x\n\ny",a.png,b.png,0\nz,a.png,b.png,7\n'
    scan = scan_pairs(fill(tmp_path, {**A_B, "metadata.csv": table}))
    assert [d.where for d in scan.defects if d.kind == "bad_metadata"] == ["metadata.csv:5"]
    assert [p.prompt for p in scan.pairs] == ["x y"]


def test_a_table_without_prompts_uses_caption_files_and_one_prompt_per_row(tmp_path):
    rows = [{**ROW, "prompt": "", "preference": 0}, {**ROW, "prompt": "other", "preference": 0}]
    files = {**A_B, "a.txt": "from file", "metadata.jsonl": "\n".join(map(json.dumps, rows))}
    assert found(scan_pairs(fill(tmp_path, files))) == [
        ("a.png>b.png", "from file", "a.png", "b.png"),
        ("a.png>b.png#2", "other", "a.png", "b.png"),
    ]


def test_table_paths_ignore_case_and_composition_where_that_is_clear(tmp_path):
    files = {"im/" + unicodedata.normalize("NFD", "é ü.png"): 1, "im/B.PNG": 2}
    row = {
        "prompt": "x",
        "image_0": unicodedata.normalize("NFC", "im\\é ü.png"),
        "image_1": "./IM/b.png",
        "preference": 0,
    }
    scan = scan_pairs(fill(tmp_path, {**files, "metadata.jsonl": json.dumps(row)}))
    assert (len(scan.pairs), scan.defects) == (1, ())


def test_precedence(tmp_path):
    """A table before sub-folders before suffixes before ranked sets."""
    fill(tmp_path, {"r_0.png": 1, "r_1.png": 2, "r.txt": "r"})
    assert scan_pairs(tmp_path).layout == "ranked"
    fill(tmp_path, {"s_w.png": 3, "s_l.png": 4, "s.txt": "s"})
    scan = scan_pairs(tmp_path)
    assert (scan.layout, [p.key for p in scan.pairs]) == ("suffixes", ["s"])
    assert [(d.kind, d.where) for d in scan.defects] == [
        ("ignored_files", f"r{end}") for end in ("_0.png", "_1.png", ".txt")
    ]
    fill(tmp_path, {"w/f.png": 5, "l/f.png": 6, "f.txt": "f"})
    scan = scan_pairs(tmp_path)
    assert (scan.layout, [p.key for p in scan.pairs]) == ("subfolders", ["f"])
    assert len(scan.defects) == 6
    assert str(scan.defects[0]) == "r_0.png: belongs to no pair in the layout 'subfolders'; ignored"
    fill(tmp_path, {"metadata.csv": "prompt,image_0,image_1,label\nx,r_0.png,s_w.png,1\n"})
    assert (scan_pairs(tmp_path).layout, set(kinds(scan_pairs(tmp_path)))) == ("metadata", {"ignored_files"})
    fill(
        tmp_path,
        {"metadata.jsonl": json.dumps({"prompt": "y", "image_0": "r_0.png", "image_1": "s_w.png", "label": 0})},
    )
    assert [p.prompt for p in scan_pairs(tmp_path).pairs] == ["y"]


def test_composed_and_decomposed_names_are_the_same(tmp_path):
    composed, decomposed = unicodedata.normalize("NFC", "Bär é"), unicodedata.normalize("NFD", "Bär é")
    assert composed != decomposed
    fill(tmp_path, {f"{composed}_w.png": 1, f"{decomposed}_l.png": 2, f"{decomposed}.txt": "猫 🐈"})
    scan = scan_pairs(tmp_path)
    assert [(p.key, p.prompt) for p in scan.pairs] == [(composed, "猫 🐈")]
    assert all(p.winner.exists() and p.loser.exists() for p in scan.pairs)


def test_hidden_files_and_system_litter_are_not_seen(tmp_path):
    fill(tmp_path, {"a_w.png": 1, "a_l.png": 2, "a.txt": "x", "Thumbs.db": "x", "desktop.ini": "x"})
    fill(tmp_path, {".dspo_cache/b_w.png": 3, "._a_w.png": 4, "__MACOSX/c_w.png": 5, ".git/d_w.png": 6})
    scan = scan_pairs(tmp_path)
    assert ([p.key for p in scan.pairs], scan.defects) == (["a"], ())


def test_order_and_keys_do_not_depend_on_the_order_of_writing(tmp_path):
    names = [f"{place}{letter}{side}.png" for place in ("", "z/", "b/") for letter in "qab" for side in ("_w", "_l")]
    for folder, order in (("one", names), ("two", names[::-1])):
        fill(tmp_path / folder, {name: names.index(name) for name in order})
    scans = [scan_pairs(tmp_path / folder, allow_empty_captions=True) for folder in ("one", "two")]
    keys = [[pair.key for pair in scan.pairs] for scan in scans]
    assert keys[0] == keys[1] == ["a", "b", "q", "b/a", "b/b", "b/q", "z/a", "z/b", "z/q"]


def test_captions_are_trimmed_joined_and_decoded(tmp_path):
    fill(
        tmp_path,
        {f"{name}_{side}.png": shade for shade, (name, side) in enumerate((n, s) for n in "abc" for s in "wl")},
    )
    (tmp_path / "a.txt").write_bytes("\ufeff  déjà vu \r\n".encode())
    (tmp_path / "b.txt").write_bytes("猫".encode("utf-16"))
    (tmp_path / "c.txt").write_bytes(b"one\r\n\r\n  two\r\n")
    scan = scan_pairs(tmp_path)
    assert [pair.prompt for pair in scan.pairs] == ["déjà vu", "猫", "one two"]
    assert [(d.kind, d.where, d.fatal) for d in scan.defects] == [("multiline_caption", "c.txt", False)]


def test_a_missing_caption_comes_from_the_pictures_winner_first(tmp_path):
    for name, text in (("a_w", "winner's"), ("a_l", "loser's"), ("b_l", "loser's")):
        info = PngImagePlugin.PngInfo()
        info.add_text("parameters", f"{text}\nNegative prompt: bad\nSteps: 20")
        picture(tmp_path / f"{name}.png", len(name) * ord(name[0]) % 200 + (name[2] == "w"), pnginfo=info)
    picture(tmp_path / "b_w.png", 3)
    fill(tmp_path, {"b.txt": "  \n"})
    assert [p.prompt for p in scan_pairs(tmp_path).pairs] == ["winner's", "loser's"]


def test_a_pair_without_prompt_is_kept_on_request_only(tmp_path):
    fill(tmp_path, {"a_w.png": 1, "a_l.png": 2})
    assert kinds(scan_pairs(tmp_path)) == ["no_caption"]
    scan = scan_pairs(tmp_path, allow_empty_captions=True)
    assert ([p.prompt for p in scan.pairs], scan.defects) == ([""], ())


def test_sizes_are_as_shown(tmp_path):
    """Orientation 6 stands the 100 x 80 file upright: 80 x 100."""
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(tmp_path / "a_w.jpg", 1, (100, 80), exif=exif)
    picture(tmp_path / "a_l.png", 2, (80, 100))
    scan = scan_pairs(tmp_path, allow_empty_captions=True)
    assert (scan.pairs[0].winner_size, scan.pairs[0].loser_size, scan.defects) == ((80, 100), (80, 100), ())


def test_the_same_pair_of_pictures_under_two_prompts_may_be_ranked_both_ways(tmp_path):
    fill(
        tmp_path,
        {"red_w.png": 1, "red_l.png": 2, "red.txt": "red", "blue_w.png": 2, "blue_l.png": 1, "blue.txt": "blue"},
    )
    scan = scan_pairs(tmp_path)
    assert len(scan.pairs) == 2
    assert [(d.kind, d.fatal) for d in scan.defects] == [("contradicting_labels", False)]


def test_a_contradiction_drops_both_sides_and_a_repetition_all_but_the_first(tmp_path):
    rows = [(0, "a"), (1, "a"), (0, "b"), (0, "b"), (0, "b")]
    table = [json.dumps({"prompt": p, "image_0": "a.png", "image_1": "b.png", "preference": v}) for v, p in rows]
    scan = scan_pairs(fill(tmp_path, {**A_B, "metadata.jsonl": "\n".join(table)}))
    assert [p.prompt for p in scan.pairs] == ["b"]
    assert [(d.kind, d.where) for d in scan.defects] == [
        ("contradicting_labels", "metadata.jsonl:1"),
        ("contradicting_labels", "metadata.jsonl:2"),
        ("duplicate_pair", "metadata.jsonl:4"),
        ("duplicate_pair", "metadata.jsonl:5"),
    ]
    assert "contradicts metadata.jsonl:2" in scan.defects[0].message


def test_copies_are_recognised_despite_other_metadata(tmp_path):
    """b is a with the sides swapped, its files copied with another text chunk in them."""
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "something else")
    for name, shade in (("a_w", 1), ("a_l", 2)):
        picture(tmp_path / f"{name}.png", shade)
    for name, shade in (("b_w", 2), ("b_l", 1)):
        picture(tmp_path / f"{name}.png", shade, pnginfo=info)
    fill(tmp_path, {"a.txt": "x", "b.txt": "x"})
    scan = scan_pairs(tmp_path)
    assert (scan.pairs, kinds(scan)) == ((), ["contradicting_labels"] * 2)


def test_deep_decodes_and_compares_pixels(tmp_path):
    """The same pixels, compressed otherwise: only decoding shows it. Damage under a correct checksum likewise."""
    gradient = Image.linear_gradient("L")
    gradient.save(tmp_path / "a_w.png", compress_level=1)
    gradient.save(tmp_path / "a_l.png", compress_level=9)
    picture(tmp_path / "b_w.png", 1)
    gradient.rotate(90).save(tmp_path / "b_l.png")
    damage(tmp_path / "b_l.png", checksum=True)
    assert scan_pairs(tmp_path, allow_empty_captions=True).defects == ()
    scan = scan_pairs(tmp_path, allow_empty_captions=True, deep=True)
    assert sorted((d.kind, d.where) for d in scan.defects) == [
        ("same_image", "a_w.png"),
        ("unreadable_image", "b_l.png"),
    ]


def test_a_broken_picture_of_a_ranked_set_is_listed_once_and_the_others_stay(tmp_path):
    fill(tmp_path, {"cat_0.png": 1, "cat_1.png": "", "cat_2.png": 3, "cat_4.png": 4, "cat.txt": "x"})
    scan = scan_pairs(tmp_path)
    assert [p.key for p in scan.pairs] == ["cat#0>2", "cat#0>4", "cat#2>4"]
    assert [(d.kind, d.where) for d in scan.defects] == [("ranked_set", "cat_0.png"), ("unreadable_image", "cat_1.png")]


def test_one_missing_partner_does_not_hide_the_rest(tmp_path):
    fill(tmp_path, {"a_w.png": 1, "a_l.png": 2, "a.txt": "x", "b_w.png": 3, "c_l.png": 4})
    scan = scan_pairs(tmp_path)
    assert [p.key for p in scan.usable()] == ["a"]
    assert [str(d) for d in scan.defects] == [
        "b_w.png: a winner without its loser; add b_l.png (or .jpg, .webp), or remove this one",
        "c_l.png: a loser without its winner; add c_w.png (or .jpg, .webp), or remove this one",
    ]


def test_two_families_of_suffixes_keep_their_keys_apart(tmp_path):
    fill(tmp_path, {"a_w.png": 1, "a_l.png": 2, "a_win.png": 3, "a_lose.png": 4, "a.txt": "x"})
    assert sorted(p.key for p in scan_pairs(tmp_path).pairs) == ["a", "a#win"]


def test_usable_lists_the_first_ten_defects(tmp_path):
    fill(tmp_path, {f"p{number:02d}_w.png": number for number in range(12)})
    with pytest.raises(
        DatasetError, match=r"no usable pair\n  p00_w\.png: a winner without(.|\n)*p09(.|\n)*and 2 more$"
    ):
        scan_pairs(tmp_path).usable()


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_links_inside_the_folder_are_followed_once(tmp_path):
    fill(tmp_path, {"chosen/a.png": 1, "store/a.png": 2, "a.txt": "x"})
    (tmp_path / "rejected").symlink_to("store", target_is_directory=True)
    (tmp_path / "chosen" / "loop").symlink_to("..", target_is_directory=True)
    scan = scan_pairs(tmp_path)
    assert ([(p.key, p.loser.name) for p in scan.pairs], scan.defects) == ([("a", "a.png")], ())


def test_a_scan_reads_a_relative_path(tmp_path, monkeypatch):
    fill(tmp_path / "data", {"a_w.png": 1, "a_l.png": 2, "a.txt": "x"})
    monkeypatch.chdir(tmp_path)
    assert scan_pairs("data").pairs[0].winner == Path("data/a_w.png")
