"""Real processes: killed while they vote, and voting on one set at the same time; and disks that fill up."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from test_preferences import lines, pictures

from dspo_train.exceptions import DatasetError, RunError
from dspo_train.preferences import PreferenceStore, Recorded

VOTER = """
import sys
from pathlib import Path
from dspo_train.preferences import PreferenceStore, Recorded
store = PreferenceStore(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[2])):
    asked = store.next(1)
    if not asked:
        break
    answer = store.vote(asked[0].pair, "win", asked[0].left, client=sys.argv[3])
    if isinstance(answer, Recorded):
        print(answer.vote.id, flush=True)
"""


def start(folder: Path, name: str, votes: int = 500) -> subprocess.Popen[str]:
    """A process that votes as soon as it gets a line, and prints the id of each vote it was told is recorded."""
    command = [sys.executable, "-c", VOTER, str(folder), str(votes), name]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def recorded(process: subprocess.Popen[str]) -> list[str]:
    """The ids printed until the process ended; of a killed one, without a line cut short."""
    assert process.stdout is not None
    text = process.stdout.read()
    process.wait()
    return text[: text.rfind("\n") + 1].split()


def counting_votes(store: PreferenceStore) -> Counter[tuple[str, ...]]:
    """Pair -> how many votes of the file are on it; nothing was undone here."""
    return Counter(tuple(line["pair"]) for line in lines(store) if line["kind"] == "vote")


@pytest.fixture
def store(tmp_path):
    """33 pictures, all pairs: 528 questions."""
    store = PreferenceStore(tmp_path / "set")
    store.add_group("a", pictures(*range(33)))
    return store


def test_killed_while_voting_loses_no_acknowledged_vote(store):
    acknowledged = []
    for turn, votes in enumerate((10, 60, 25, 120)):
        process = start(store.folder, f"tab{turn}")
        go(process)
        assert process.stdout is not None
        acknowledged += [process.stdout.readline().strip() for _ in range(votes)]
        process.kill()
        acknowledged += recorded(process)
    again = PreferenceStore(store.folder)
    assert len(acknowledged) >= 215
    assert {*acknowledged} <= {line["id"] for line in lines(again)}
    assert again.broken() == []
    assert set(counting_votes(again).values()) == {1}
    assert again.progress().answered == len(counting_votes(again))
    assert again.progress() == store.progress()


def test_two_processes_vote_on_one_set_at_once(store):
    processes = [start(store.folder, name) for name in ("left", "right")]
    for process in processes:
        go(process)
    told = [recorded(process) for process in processes]
    assert all(told), "one of the two never got to vote"
    assert {line["id"] for line in lines(store) if line["kind"] == "vote"} == {*told[0], *told[1]}
    votes = counting_votes(store)
    assert set(votes.values()) == {1}
    assert store.progress().wins == len(votes)


def test_what_another_process_wrote_is_picked_up(store):
    process = start(store.folder, "other", votes=3)
    assert store.progress().answered == 0
    go(process)
    assert len(recorded(process)) == 3
    assert [it.vote.client for it in store.history()] == ["other"] * 3
    assert store.progress().answered == 3


@pytest.mark.parametrize("torn", [b'{"kind": "vote", "id": "x', b"{", b"\xff\x00", b'{"kind": "x"}', b"   "])
def test_a_torn_last_line_is_cut_off_by_the_next_append(store, torn):
    whole = (store.folder / "preferences.jsonl").read_bytes()
    with open(store.folder / "preferences.jsonl", "ab") as file:
        file.write(torn)
    question = store.next()[0]
    assert isinstance(store.vote(question.pair, "tie", id="v"), Recorded)
    content = (store.folder / "preferences.jsonl").read_bytes()
    assert content.startswith(whole + b'{"kind": "vote", "id": "v"')
    assert PreferenceStore(store.folder).broken() == []


def test_a_last_line_that_only_lacks_its_end_is_kept(store):
    """An editor may leave the last newline out."""
    path = store.folder / "preferences.jsonl"
    store.vote(store.next()[0].pair, "tie", id="v")
    path.write_bytes(path.read_bytes().removesuffix(b"\n"))
    again = PreferenceStore(store.folder)
    assert again.progress().ties == 1
    assert isinstance(again.vote(again.next()[0].pair, "tie", id="w"), Recorded)
    assert [line["id"] for line in lines(again)[-2:]] == ["v", "w"]


def test_a_torn_first_line_is_no_obstacle(tmp_path):
    (tmp_path / "preferences.jsonl").write_bytes(b'{"kind": "se')
    store = PreferenceStore(tmp_path)
    assert [line["kind"] for line in lines(store)] == ["set"]


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_full_disk_leaves_the_set_as_it_was(store, monkeypatch, call):
    """The disk takes 40 bytes of a line and no more, or refuses at the flush; then there is room again."""
    path = store.folder / "preferences.jsonl"
    before, question = path.read_bytes(), store.next()[0]
    real = getattr(os, call)
    calls = []

    def full(handle, *data):
        calls.append(handle)
        if call == "write" and len(calls) == 1:
            return real(handle, data[0][:40])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(RunError, match="the disk is full"):
            store.vote(question.pair, "tie", id="v")
    assert path.read_bytes() == before
    assert store.next() == [question]
    assert isinstance(store.vote(question.pair, "tie", id="v"), Recorded)
    assert PreferenceStore(store.folder).progress().ties == 1


def test_a_full_disk_while_adding_pictures(store, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    before = sorted(store.folder.rglob("*"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(RunError, match="the disk is full"):
            store.add_group("b", pictures(100, 101))
    assert sorted(store.folder.rglob("*")) == before
    store.add_group("b", pictures(100, 101))
    assert len(store.groups()) == 2


LIMITED = """
import resource, sys
from pathlib import Path
from dspo_train.exceptions import RunError
from dspo_train.preferences import PreferenceStore
store = PreferenceStore(Path(sys.argv[1]))
size = (store.folder / "preferences.jsonl").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, resource.RLIM_INFINITY))
try:
    store.vote(store.next()[0].pair, "tie")
except RunError:
    assert (store.folder / "preferences.jsonl").stat().st_size == size
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(store.vote(store.next()[0].pair, "tie").vote.outcome)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on file sizes, which Windows has not")
def test_a_file_that_the_system_refuses_to_grow(store):
    """The kernel takes 100 bytes of the line and refuses the rest."""
    command = [sys.executable, "-c", LIMITED, str(store.folder)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "tie\n"
    assert store.progress().ties == 1


def test_a_lock_that_nobody_gives_back_is_reported(store, monkeypatch):
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from dspo_train.preferences.log import PreferenceLog\n"
            "with PreferenceLog(Path(sys.argv[1])).locked(): print('held', flush=True); sys.stdin.read()",
            str(store.folder),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None and holder.stdin is not None
    assert holder.stdout.readline().strip() == b"held"
    monkeypatch.setattr("dspo_train.preferences.log._PATIENCE", 0.2)
    with pytest.raises(DatasetError, match="another program has kept it locked"):
        PreferenceStore(store.folder)
    assert store.progress().total == 528  # reading goes on
    holder.stdin.close()
    holder.wait()
    assert PreferenceStore(store.folder).progress().total == 528


def test_every_vote_is_on_the_disk_before_it_is_acknowledged(store, monkeypatch):
    """At the flush, the file holds the whole line."""
    seen = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (seen.append(lines(store)[-1]["id"]), real(handle)))
    store.vote(store.next()[0].pair, "tie", id="v")
    assert seen == ["v"]


def test_a_dead_process_holds_no_lock(store):
    process = start(store.folder, "tab")
    go(process)
    time.sleep(0.05)
    process.kill()
    recorded(process)
    assert isinstance(store.vote(store.next()[0].pair, "tie"), Recorded)
