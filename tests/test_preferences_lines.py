"""The file itself: lines that say nothing, files that were edited or replaced."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
from test_preferences import lines, pictures

from dspo_train.exceptions import DatasetError
from dspo_train.preferences import PreferenceStore, Recorded, Vote
from dspo_train.preferences.entries import EntryError, parse

A, B = "images/00000000000000aa.png", "images/00000000000000bb.webp"
GROUP = {
    "kind": "group",
    "id": "g",
    "time": "t",
    "prompt": "x",
    "schedule": "all",
    "images": [{"image": A}, {"image": B}],
}
VOTE = {"kind": "vote", "id": "v", "time": "t", "group": "g", "pair": [B, A], "outcome": "win", "winner": B}


def encoded(row) -> bytes:
    return json.dumps(row).encode()


def test_a_pair_is_sorted_and_the_winner_named():
    vote = parse(encoded(VOTE))
    assert isinstance(vote, Vote)
    assert (vote.pair, vote.winner) == ((A, B), B)


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../images/00000000000000aa.png",
        "images/../../secret.png",
        "images\\00000000000000aa.png",
        "C:/images/00000000000000aa.png",
        "images/00000000000000AA.png",
        "images/00000000000000aa.png\n",
        "images/00000000000000aa.gif",
        "images/aa.png",
        "",
        None,
        7,
        ["images/00000000000000aa.png"],
    ],
)
def test_only_stored_pictures_can_be_named(name):
    places = [
        {**GROUP, "images": [{"image": name}, {"image": B}]},
        {**VOTE, "pair": [name, B]},
        {**VOTE, "pair": [A, B], "winner": name},
        {"kind": "remove", "id": "r", "time": "t", "image": name},
    ]
    for row in places:
        with pytest.raises(EntryError):
            parse(encoded(row))
    if name is not None:  # nothing on the left is fine: imports show nothing
        with pytest.raises(EntryError):
            parse(encoded({**VOTE, "left": name}))


@pytest.mark.parametrize(
    "row",
    [
        {**GROUP, "images": [{"image": A}]},
        {**GROUP, "images": [{"image": A}, {"image": A}]},
        {**GROUP, "images": [{"image": A}, {"image": A.replace("png", "jpg")}]},
        {**GROUP, "images": [{"image": A, "seed": "7"}, {"image": B}]},
        {**GROUP, "images": {"image": A}},
        {**GROUP, "schedule": ["all"]},
        {**GROUP, "prompt": None},
        {**GROUP, "settings": []},
        {**GROUP, "id": "a.b"},
        {**VOTE, "winner": None},
        {**VOTE, "outcome": "tie"},
        {**VOTE, "outcome": ["win"]},
        {**VOTE, "pair": [A, A]},
        {**VOTE, "pair": [A, B, A]},
        {**VOTE, "seconds": True},
        {**VOTE, "client": "a tab"},
        {**VOTE, "id": 5},
        {**VOTE, "kind": ["vote"]},
        {"kind": "undo", "id": "u", "time": "t"},
        {"kind": "remove", "id": "u", "time": "t"},
        {"kind": "remove", "id": "u", "time": "t", "image": A, "group": "g"},
        {"kind": "set", "id": "s", "time": "t", "seed": "x", "version": "1"},
        {"kind": "new"},
        [],
        "vote",
        None,
    ],
)
def test_what_no_version_writes_is_an_error(row):
    with pytest.raises(EntryError):
        parse(encoded(row))


@pytest.mark.parametrize("line", [b"{", b"\xff\xfe{\x00}\x00", b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}", b"{}{}"])
def test_what_is_no_json_is_an_error(line):
    with pytest.raises(EntryError):
        parse(line)


@pytest.fixture
def store(tmp_path):
    """Three pictures, one vote (id v) on one of the three pairs."""
    store = PreferenceStore(tmp_path / "set")
    store.add_group("a", pictures(1, 2, 3), id="g")
    store.vote(store.next()[0].pair, "tie", id="v")
    return store


def test_broken_lines_are_reported_and_stay(store):
    """Between sound lines: damage, a vote on nothing, a repeated vote, an undo of nothing; also an empty line."""
    path = store.folder / "preferences.jsonl"
    header, group, vote = path.read_bytes().splitlines(keepends=True)
    undo = b'{"kind": "undo", "id": "u", "time": "t", "vote": "nothing"}\n'
    remove = b'{"kind": "remove", "id": "r", "time": "t", "group": "nothing"}\n'
    stranger = encoded(VOTE) + b"\n"
    content = header + b"{torn\n" + group + b"\n" + vote + vote + group + undo + remove + stranger
    path.write_bytes(content)
    again = PreferenceStore(store.folder)
    assert [broken.line for broken in again.broken()] == [2, 6, 7, 8, 9, 10]
    assert again.progress().ties == 1
    question = again.next()[0]
    again.vote(question.pair, "tie", id="w")
    assert path.read_bytes().startswith(content)
    assert PreferenceStore(store.folder).progress().ties == 2


def test_windows_line_ends_and_a_byte_order_mark_are_read(store):
    path = store.folder / "preferences.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    again = PreferenceStore(store.folder)
    assert (again.broken(), again.progress(), again.id) == ([], store.progress(), store.id)


def test_a_lost_header_is_replaced(store):
    path = store.folder / "preferences.jsonl"
    path.write_bytes(b"#" + path.read_bytes())
    again = PreferenceStore(store.folder)
    assert [broken.line for broken in again.broken()] == [1]
    assert again.progress().ties == 1
    assert path.read_bytes().splitlines()[-1].startswith(b'{"kind": "set"')
    assert PreferenceStore(store.folder).next(9) == again.next(9)


def test_a_newer_format_is_refused_and_not_touched(tmp_path):
    content = b'{"kind": "set", "id": "s", "time": "t", "version": 2}\n'
    (tmp_path / "preferences.jsonl").write_bytes(content)
    with pytest.raises(DatasetError, match="format version 2"):
        PreferenceStore(tmp_path)
    assert (tmp_path / "preferences.jsonl").read_bytes() == content


def test_a_file_that_shrank_is_read_anew(store):
    """Put back from a backup, from before the vote."""
    path = store.folder / "preferences.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    assert store.progress().answered == 0
    assert isinstance(store.vote(store.next()[0].pair, "tie", id="v"), Recorded)


def test_a_file_edited_in_the_middle_is_read_anew(store):
    """Lines grew above those already read, and one came: all are read, none twice."""
    path = store.folder / "preferences.jsonl"
    other = PreferenceStore(store.folder)
    other.vote(other.next()[0].pair, "tie", id="w")
    path.write_bytes(path.read_bytes().replace(b'"prompt": "a"', b'"prompt": "another"'))
    assert (store.progress().ties, store.groups()[0].prompt) == (2, "another")
    assert store.broken() == []


def test_a_deleted_set_starts_empty(store):
    shutil.rmtree(store.folder)
    store.folder.mkdir()
    assert store.progress().total == 0
    store.add_group("b", pictures(1, 2))
    assert [line["kind"] for line in lines(store)] == ["set", "group"]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Exception, match="could not write"):
        PreferenceStore(tmp_path / "file" / "set")


def test_the_store_loads_nothing_heavy():
    code = "import sys, dspo_train.preferences; sys.exit(bool({'torch', 'numpy', 'scipy'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
