"""A collected set as training pairs, written as other layouts, and filled from them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from test_preferences import lines, pictures, png

from dspo_train.exceptions import DatasetError, RunError
from dspo_train.pairs import scan_folder, scan_opinions, scan_pairs
from dspo_train.pairs.export import export
from dspo_train.pairs.importing import import_folder
from dspo_train.preferences import NewImage, PreferenceStore

LAYOUTS = {"suffix": "suffixes", "subfolders": "subfolders", "ranked": "ranked", "jsonl": "metadata", "csv": "metadata"}


def content(scan) -> list:
    """(prompt, winner's bytes, loser's bytes) of each pair, sorted."""
    return sorted((pair.prompt, pair.winner.read_bytes(), pair.loser.read_bytes()) for pair in scan.pairs)


@pytest.fixture
def store(tmp_path):
    """Four groups of two: two wins, a tie, a skip; and one of three pictures of which the brightest wins twice."""
    store = PreferenceStore(tmp_path / "set")
    prompts = ['a "cat", =1+1; naïve', "a dog\nat night,\r\n 夕暮れ", "a tie", "a skip"]
    for number, prompt in enumerate(prompts):
        pair = [NewImage(png(2 * number)), NewImage(png(2 * number + 1, format="WEBP" if number else "JPEG"))]
        store.add_group(prompt, pair, id=f"g{number}")
    store.add_group("three", pictures(100, 101, 102), id="three")
    asked = {question.group: question for question in store.next(4)}
    store.vote(asked["g0"].pair, "win", asked["g0"].left)
    store.vote(asked["g1"].pair, "win", asked["g1"].right)
    store.vote(asked["g2"].pair, "tie")
    store.vote(asked["g3"].pair, "skip")
    best = store.groups()[4].names[2]
    for question in store.next(3):
        if best in (question.left, question.right):
            store.vote(question.pair, "win", best)
    return store


def test_a_set_is_scanned_as_pairs(store):
    scan = scan_pairs(store.folder)
    assert (scan.layout, len(scan.pairs), scan.ties, scan.defects) == ("collected", 4, 1, ())
    expected = {(it.winner, it.loser) for it in store.judged()}
    assert {(f"images/{p.winner.name}", f"images/{p.loser.name}") for p in scan.pairs} == expected
    assert [pair.prompt for pair in scan.pairs][:2] == ['a "cat", =1+1; naïve', "a dog at night, 夕暮れ"]


def test_only_the_votes_that_count_are_scanned(store):
    """One vote relabelled, one undone, a picture of two more pairs removed: one pair is left, the other way round."""
    first = store.judged()[0]
    store.relabel(first.pair, "win", first.loser)
    store.undo(store.judged()[1].vote.id)
    store.remove(store.groups()[4].names[2])
    scan = scan_pairs(store.folder)
    assert [(f"images/{p.winner.name}", f"images/{p.loser.name}") for p in scan.pairs] == [(first.loser, first.winner)]
    assert scan.defects == ()


def test_defects_of_a_set_are_found(store):
    """A missing, a damaged and a link of a picture, and a broken line; the rest is still read."""
    first, second, *_ = store.judged()
    (store.folder / first.winner).unlink()
    (store.folder / second.loser).write_bytes(b"RIFF")
    path = store.folder / "preferences.jsonl"
    path.write_bytes(path.read_bytes() + b"{broken\n")
    number = path.read_bytes().count(b"\n")
    scan = scan_pairs(store.folder)
    assert [(defect.kind, defect.where) for defect in scan.defects] == [
        ("bad_metadata", f"preferences.jsonl:{number}"),
        ("missing_file", "preferences.jsonl:7"),  # the header and five groups come before the first vote
        ("unreadable_image", second.loser),
    ]
    assert len(scan.pairs) == 2


def test_the_scan_leaves_a_torn_last_line_alone(store):
    path = store.folder / "preferences.jsonl"
    path.write_bytes(path.read_bytes() + b'{"kind": "vo')
    before = path.read_bytes()
    assert (len(scan_pairs(store.folder).pairs), scan_pairs(store.folder).defects) == (4, ())
    assert path.read_bytes() == before


def test_a_set_without_votes_says_so(tmp_path):
    PreferenceStore(tmp_path).add_group("a", pictures(1, 2))
    with pytest.raises(DatasetError, match="no vote says who won yet"):
        scan_pairs(tmp_path)


def test_another_programs_file_of_that_name_is_passed_over(tmp_path):
    (tmp_path / "preferences.jsonl").write_text('{"theme": "dark"}\n')
    for name, shade in (("a_w.png", 1), ("a_l.png", 2)):
        (tmp_path / name).write_bytes(png(shade))
    (tmp_path / "a.txt").write_text("a")
    assert scan_pairs(tmp_path).layout == "suffixes"


def test_a_set_goes_before_a_table(store):
    (store.folder / "metadata.jsonl").write_text('{"prompt": "x"}\n')
    assert scan_pairs(store.folder).layout == "collected"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_export_is_scanned_as_the_set_itself(store, tmp_path, layout):
    report = export(store, tmp_path / "out", layout)
    table = layout in ("jsonl", "csv")
    assert (report.pairs, report.ties) == (4, int(table))
    scan = scan_pairs(tmp_path / "out")
    assert (scan.layout, scan.ties, scan.defects) == (LAYOUTS[layout], report.ties, ())
    assert content(scan) == content(scan_pairs(store.folder))
    # Four pairs of two in folders; tables name each of 2 + 2 + 2 + 3 pictures once.
    assert report.images == (9 if table else 8)
    assert sum(path.suffix in (".png", ".jpg", ".webp") for path in (tmp_path / "out").rglob("*")) == report.images


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_scan_is_exported_too(store, tmp_path, layout):
    export(scan_pairs(store.folder), tmp_path / "out", layout)
    assert content(scan_pairs(tmp_path / "out")) == content(scan_pairs(store.folder))


def test_an_export_needs_an_empty_folder_and_a_vote(store, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x").write_text("")
    with pytest.raises(DatasetError, match="is not empty"):
        export(store, tmp_path / "out", "jsonl")
    for judged in store.judged():
        store.undo(judged.vote.id)
    with pytest.raises(DatasetError, match="nothing to export as suffix"):
        export(store, tmp_path / "new", "suffix")
    with pytest.raises(DatasetError, match="no layout 'zip'"):
        export(store, tmp_path / "new", "zip")  # pyright: ignore[reportArgumentType]
    assert not (tmp_path / "new").exists()


def test_an_export_says_which_picture_is_missing(store, tmp_path):
    name = store.judged()[0].winner
    (store.folder / name).unlink()
    for layout in LAYOUTS:
        with pytest.raises(DatasetError, match=r"of the pair .* is missing, so nothing was exported") as caught:
            export(store, tmp_path / "out", layout)  # pyright: ignore[reportArgumentType]
        assert name.removeprefix("images/") in str(caught.value)
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_export_that_breaks_off_leaves_nothing(store, tmp_path, layout, monkeypatch):
    copy = shutil.copyfile

    def full(source, target):
        if len(list((tmp_path / "out").rglob("*.*"))) > 2:
            raise OSError(28, "No space left on device")
        return copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(RunError):
        export(store, tmp_path / "out", layout)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_import_takes_any_layout_once(store, tmp_path, layout):
    export(store, tmp_path / "out", layout)
    taken = PreferenceStore(tmp_path / "taken")
    first = import_folder(taken, tmp_path / "out")
    assert (first.added, first.already, first.defects) == (4, 0, ())
    assert content(scan_pairs(taken.folder)) == content(scan_pairs(store.folder))
    before = lines(taken)
    second = import_folder(taken, tmp_path / "out")
    assert (second.added, second.already) == (0, 4)
    assert lines(taken) == before
    assert {line["source"] for line in before if line["kind"] == "vote"} == {"import"}
    assert taken.next(9) == []


def test_an_import_of_a_set_into_a_set(store, tmp_path):
    taken = PreferenceStore(tmp_path / "taken")
    assert import_folder(taken, store.folder).ties == 1
    assert content(scan_pairs(taken.folder)) == content(scan_pairs(store.folder))
    shutil.rmtree(store.folder)
    assert len(scan_pairs(taken.folder).pairs) == 4  # the pictures were copied


def test_an_import_does_not_bring_back_what_a_person_changed(store, tmp_path):
    export(store, tmp_path / "out", "suffix")
    taken = PreferenceStore(tmp_path / "taken")
    import_folder(taken, tmp_path / "out")
    turned, undone, removed, _ = taken.judged()
    taken.relabel(turned.pair, "win", turned.loser)
    taken.undo(undone.vote.id)
    taken.remove(removed.vote.group)
    before = lines(taken)
    assert import_folder(taken, tmp_path / "out").added == 0
    assert lines(taken) == before


def test_the_order_of_an_imported_group_tells_nothing(tmp_path):
    """Of 60 imported pairs the winner is named first about half the time (4 sigma: 15 to 45)."""
    for number in range(60):
        for side, shade in (("w", 2 * number), ("l", 2 * number + 1)):
            path = tmp_path / "pairs" / f"{number}_{side}.png"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(png(shade))
        (tmp_path / "pairs" / f"{number}.txt").write_text("x")
    store = PreferenceStore(tmp_path / "set")
    assert import_folder(store, tmp_path / "pairs").added == 60
    first = {group.names[0] for group in store.groups()}
    assert 15 < sum(judged.winner in first for judged in store.judged()) < 45


def test_opinions_are_exported_as_liked_and_disliked(tmp_path):
    """Of one prompt the last is bad, of the other all are: three liked, four disliked."""
    store = PreferenceStore(tmp_path / "set")
    store.add_group("a\ncat", pictures(1, 2, 3, 4), id="a")
    store.add_group("a dog", pictures(5, 6, 7), id="b")
    with pytest.raises(DatasetError, match="nothing to export as opinions"):
        export(store, tmp_path / "out", "opinions")
    a, b = store.groups()
    store.judge("a", bad=a.names[3:])
    store.judge("b", bad=b.names)
    report = export(store, tmp_path / "out", "opinions")
    assert (report.pairs, report.images) == (0, 7)
    scan = scan_folder(tmp_path / "out")
    assert (scan.layout, scan.unpaired, scan.defects) == ("folders", True, ())
    found = sorted((it.prompt, it.liked) for it in scan.images)
    assert found == [("a cat", False), *[("a cat", True)] * 3, *[("a dog", False)] * 3]
    liked = {it.image.read_bytes() for it in scan.images if it.liked}
    assert liked == {(store.folder / name).read_bytes() for name in a.names[:3]}
    tables = export(store, tmp_path / "table", "jsonl")
    assert (tables.pairs, tables.ties) == (3, 0), "three beat the bad one; both bad is no tie"


def test_opinions_are_read_from_the_set_itself(tmp_path):
    """As the export has them; a set without bad images has none, and another folder is none of ours."""
    store = PreferenceStore(tmp_path / "set")
    store.add_group("a\ncat", pictures(1, 2, 3, 4), id="a")
    store.add_group("a dog", pictures(5, 6, 7), id="b")
    a, b = store.groups()
    store.judge("b", best=b.names[:1])
    with pytest.raises(DatasetError, match="no image was called bad"):
        scan_opinions(store.folder)
    store.judge("a", bad=a.names[3:])
    scan = scan_opinions(store.folder)
    assert (scan.layout, scan.unpaired, scan.defects) == ("opinions", True, ())
    assert {(it.image.name, it.prompt) for it in scan.liked} == {(Path(name).name, "a cat") for name in a.names[:3]}
    assert [it.image.name for it in scan.disliked] == [Path(a.names[3]).name]
    assert len(scan_folder(store.folder).pairs) == 2 + 3, "as pairs: the best dog, and three cats over the bad one"
    (store.folder / a.names[3]).unlink()
    missing = scan_opinions(store.folder)
    assert [it.kind for it in missing.defects if it.fatal] == ["partner_missing", "missing_file"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x_w.png").write_bytes(png(1))
    with pytest.raises(DatasetError, match="is not a set collected here"):
        scan_opinions(tmp_path / "other")
