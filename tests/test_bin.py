"""The bin that deleted folders are moved into, and the titles of folders that keep their names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dspo_train.exceptions import ConfigError, DatasetError
from dspo_train.files import bin as bins
from dspo_train.files.titles import give_title, title_of


def put(root: Path, name: str, text: str = "kept") -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text(text, encoding="utf-8")
    return folder


def test_there_and_back(tmp_path: Path):
    folder = put(tmp_path, "cats/my-taste")
    entry = bins.discard(tmp_path, "cats/my-taste")
    assert not folder.exists() and (tmp_path / ".bin" / entry.entry / "a.txt").read_text() == "kept"
    assert entry.name == "cats/my-taste" and entry.entry.endswith("-my-taste")
    assert bins.binned(tmp_path) == [entry]
    assert bins.put_back(tmp_path, entry.entry, entry.name) == folder.resolve()
    assert (folder / "a.txt").read_text() == "kept"
    assert bins.binned(tmp_path) == [] and list((tmp_path / ".bin").iterdir()) == []


def test_two_of_one_name_in_one_second(tmp_path: Path):
    entries = []
    for text in ("first", "second"):
        put(tmp_path, "twice", text)
        entries.append(bins.discard(tmp_path, "twice").entry)
    assert len(set(entries)) == 2 and {it.name for it in bins.binned(tmp_path)} == {"twice"}
    bins.put_back(tmp_path, entries[0], "twice")
    assert (tmp_path / "twice" / "a.txt").read_text() == "first"
    with pytest.raises(DatasetError, match="choose another name"):
        bins.put_back(tmp_path, entries[1], "twice")
    assert (tmp_path / ".bin" / entries[1] / "a.txt").read_text() == "second"


def test_a_lost_note_leaves_the_folder_restorable(tmp_path: Path):
    put(tmp_path, "deep/er")
    entry = bins.discard(tmp_path, "deep/er").entry
    note = tmp_path / ".bin" / f"{entry}.json"
    for text in (None, "{}", "[1]", json.dumps({"name": "../../etc"}), json.dumps({"name": 7})):
        note.unlink(missing_ok=True)
        if text is not None:
            note.write_text(text, encoding="utf-8")
        assert [it.name for it in bins.binned(tmp_path)] == ["er"]


def test_erased_for_good(tmp_path: Path):
    put(tmp_path, "gone")
    entry = bins.discard(tmp_path, "gone").entry
    (tmp_path / ".bin" / ".erased-left-by-a-crash").mkdir()
    bins.erase(tmp_path, entry)
    assert list((tmp_path / ".bin").iterdir()) == []
    with pytest.raises(DatasetError):
        bins.erase(tmp_path, entry)


@pytest.mark.parametrize("name", ["..", "../x", "/etc", "a/../../b", "", "c:x"])
def test_names_that_lead_out(tmp_path: Path, name: str):
    put(tmp_path, "inside")
    with pytest.raises(ConfigError):
        bins.discard(tmp_path / "inside", name)
    for act in (bins.erase, lambda root, entry: bins.put_back(root, entry, "x")):
        with pytest.raises((ConfigError, DatasetError)):
            act(tmp_path / "inside", name)
    assert (tmp_path / "inside" / "a.txt").exists()


def test_what_is_no_entry_is_neither_listed_nor_erased(tmp_path: Path):
    put(tmp_path, ".bin/mine")
    put(tmp_path, "elsewhere")
    assert bins.binned(tmp_path) == [] and bins.binned(tmp_path / "none") == []
    for name in ("mine", ".", "elsewhere"):
        with pytest.raises((ConfigError, DatasetError)):
            bins.erase(tmp_path, name)
    assert (tmp_path / ".bin" / "mine" / "a.txt").exists()


def test_a_folder_that_cannot_be_moved_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = put(tmp_path, "busy")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "in use")

    monkeypatch.setattr(bins.os, "rename", refuse)
    monkeypatch.setattr(bins, "_PAUSE", 0)
    with pytest.raises(Exception, match="in use"):
        bins.discard(tmp_path, "busy")
    assert (folder / "a.txt").exists() and list((tmp_path / ".bin").iterdir()) == []


def test_titles(tmp_path: Path):
    folder = put(tmp_path, "my-taste-01")
    assert title_of(folder) is None
    give_title(folder, "Dunkel & groß")
    assert title_of(folder) == "Dunkel & groß"
    for bad in ("", "a/b", "x\ny", "con"):
        with pytest.raises(ConfigError):
            give_title(folder, bad)
    assert title_of(folder) == "Dunkel & groß"
    give_title(folder, "my-taste-01")
    assert title_of(folder) is None and not (folder / "title.txt").exists()
    (folder / "title.txt").write_bytes(b"\xff\xfe")
    assert title_of(folder) is None
