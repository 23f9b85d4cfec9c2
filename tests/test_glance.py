"""What lists show of sets: read without a lock or a write; and sets whose folder moves away while they are open."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dspo_train.exceptions import DatasetError
from dspo_train.files.bin import move
from dspo_train.pairs.glimpse import glimpse
from dspo_train.preferences import NewImage, PreferenceStore
from dspo_train.preferences.snapshot import SetSnapshot


def png(path: Path, seed: int = 0) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def store(tmp_path: Path) -> PreferenceStore:
    """Two groups of three images: six pairs, two of them judged."""
    store = PreferenceStore(tmp_path / "input" / "set")
    for group in range(2):
        images = [NewImage(png(tmp_path / "x.png", 10 * group + n).read_bytes(), n) for n in range(3)]
        store.add_group(f"dog {group}", images)
    for question in store.next(2):
        store.vote(question.pair, "win", question.left)
    return store


def test_a_snapshot_says_what_the_store_says(store: PreferenceStore):
    seen = SetSnapshot(store.folder)
    assert seen.progress() == store.progress()
    assert (seen.progress().answered, seen.progress().total) == (2, 6)
    assert seen.groups() == store.groups()
    assert seen.judged() == store.judged() and len(seen.judged()) == 2


def test_a_snapshot_writes_nothing(store: PreferenceStore):
    (store.folder / ".preferences.lock").unlink(missing_ok=True)
    before = sorted(path.name for path in store.folder.iterdir())
    SetSnapshot(store.folder)
    assert sorted(path.name for path in store.folder.iterdir()) == before
    with pytest.raises(DatasetError):
        SetSnapshot(store.folder / "none")
    assert not (store.folder / "none").exists()


def test_removed_groups_are_not_shown(store: PreferenceStore):
    first = store.groups()[0].id
    store.remove(first)
    assert [group.id for group in SetSnapshot(store.folder).groups()] == [it.id for it in store.groups()] != [first]


def test_a_set_that_moved_is_written_nowhere(store: PreferenceStore):
    """Not at its old place either, where a store without this would make a new set."""
    question = store.next(1)[0]
    old, new = store.folder, store.folder.with_name("moved")
    with store.retired():
        move(old, new)
    for act in (
        lambda: store.vote(question.pair, "win", question.left),
        lambda: store.next(1),
        lambda: store.progress(),
        lambda: store.add_group("x", []),
    ):
        with pytest.raises(DatasetError, match="moved or deleted"):
            act()
    assert not old.exists()
    assert PreferenceStore(new).progress().answered == 2


def test_a_vote_that_waits_for_the_move_is_refused(store: PreferenceStore):
    question = store.next(1)[0]
    seen: list[object] = []

    def vote() -> None:
        try:
            seen.append(store.vote(question.pair, "win", question.left))
        except DatasetError as error:
            seen.append(str(error))

    with store.retired():
        late = threading.Thread(target=vote)
        late.start()
        late.join(0.2)
        assert late.is_alive() and not seen  # waits for the end of the move
        move(store.folder, store.folder.with_name("moved"))
    late.join(5)
    assert len(seen) == 1 and "moved or deleted" in str(seen[0])
    assert not store.folder.exists()


def test_a_move_that_fails_leaves_the_set_in_use(store: PreferenceStore):
    question = store.next(1)[0]
    with pytest.raises(OSError, match="in use"), store.retired():
        raise OSError("in use")
    store.vote(question.pair, "tie")
    assert store.progress().answered == 3


def test_folders_of_pairs_of_ratings_and_of_pictures(tmp_path: Path):
    for n in range(5):
        for side in ("w", "l"):
            png(tmp_path / "pairs" / f"{n}_{side}.png", 2 * n + (side == "w"))
        (tmp_path / "pairs" / f"{n}.txt").write_text("dog", encoding="utf-8")
        png(tmp_path / "loose" / f"IMG{n}x.png", n)
    found = glimpse(tmp_path / "pairs")
    assert (found.pairs, found.rated, found.images) == (5, 0, 10)
    assert [path.name for path in found.shown] == ["0_w.png", "1_w.png", "2_w.png", "3_w.png"]
    found = glimpse(tmp_path / "loose")
    assert (found.pairs, found.rated, found.images, len(found.shown)) == (0, 0, 5, 4)
    png(tmp_path / "loose" / "IMG9x.png", 9)
    assert glimpse(tmp_path / "loose").images == 6  # a change is seen
    shutil.rmtree(tmp_path / "loose")
    with pytest.raises(DatasetError):
        glimpse(tmp_path / "loose")
