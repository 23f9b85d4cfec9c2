"""Choosing among all candidates of a prompt: what a ballot writes, closes, and gives back."""

from __future__ import annotations

import subprocess
import sys

import pytest
from test_preferences import lines, pictures

from dspo_train.exceptions import DatasetError
from dspo_train.pairs import scan_pairs
from dspo_train.preferences import Already, Gone, GroupQuestion, PreferenceStore, Question, RecordedBallot
from dspo_train.preferences.ballots import statements


def said(images, **choice):
    return [("".join(it.pair), it.outcome, it.winner) for it in statements(images, **choice)]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"best": "b"}, [("ab", "win", "b"), ("bc", "win", "b"), ("bd", "win", "b")]),
        (
            {"best": "ca"},  # c over all, a over what is left: nothing between b and d
            [("ab", "win", "a"), ("ac", "win", "c"), ("ad", "win", "a"), ("bc", "win", "c"), ("cd", "win", "c")],
        ),
        (
            {"bad": "ad"},
            [
                ("ab", "win", "b"),
                ("ac", "win", "c"),
                ("ad", "bad", None),
                ("bd", "win", "b"),
                ("cd", "win", "c"),
            ],
        ),
        (
            {"best": "b", "bad": "d"},
            [
                ("ab", "win", "b"),
                ("ad", "win", "a"),
                ("bc", "win", "b"),
                ("bd", "win", "b"),
                ("cd", "win", "c"),
            ],
        ),
        ({"bad": "abcd"}, [(pair, "bad", None) for pair in ("ab", "ac", "ad", "bc", "bd", "cd")]),
        ({}, [(pair, "tie", None) for pair in ("ab", "ac", "ad", "bc", "bd", "cd")]),
    ],
)
def test_what_a_choice_among_four_means(choice, expected):
    assert said("abcd", **choice) == expected


@pytest.mark.parametrize("choice", [{"best": "aa"}, {"best": "a", "bad": "a"}, {"best": "x"}, {"bad": "x"}])
def test_a_choice_that_contradicts_itself_is_refused(choice):
    with pytest.raises(DatasetError, match=r"twice|not among"):
        statements("abc", **choice)


@pytest.fixture
def store(tmp_path):
    return PreferenceStore(tmp_path / "set")


@pytest.fixture
def four(store):
    """A set of one group of four; the store and its question."""
    store.add_group("a cat", pictures(1, 2, 3, 4), id="g")
    (question,) = store.next_groups(1)
    assert isinstance(question, GroupQuestion)
    return store, question


def test_one_click_closes_a_group(four):
    store, question = four
    best = question.images[2]
    answer = store.judge("g", [best], images=question.images, id="b1", client="tab", seconds=2.34567)
    assert isinstance(answer, RecordedBallot)
    votes = [line for line in lines(store) if line["kind"] == "vote"]
    assert [line["ballot"] for line in votes] == ["b1"] * 3
    assert {line["winner"] for line in votes} == {best}
    assert {line["seconds"] for line in votes} == {2.346}
    assert len({line["id"] for line in votes}) == 3
    progress = store.progress()
    assert (progress.answered, progress.open, progress.total, progress.wins) == (3, 0, 3, 3)
    assert (progress.groups_answered, progress.groups_total) == (1, 1)
    assert store.next(9) == [] == store.next_groups(9)
    assert {judged.winner for judged in store.judged()} == {best}
    pairs = scan_pairs(store.folder).pairs
    assert len(pairs) == 3 and {pair.winner for pair in pairs} == {store.folder / best}


def test_a_ballot_sent_twice_is_recorded_once(four):
    store, question = four
    first = store.judge("g", question.images[:1], id="b1")
    before = lines(store)
    assert store.judge("g", question.images[:1], id="b1") == first
    assert store.judge("g", question.images[1:2], id="b1") == first, "another answer under an id that is taken"
    assert lines(store) == before
    other = store.judge("g", question.images[1:2], id="b2")
    assert isinstance(other, Already) and other.vote.ballot == "b1"
    assert lines(store) == before


def test_undo_takes_back_a_ballot_whole(four):
    store, question = four
    store.judge("g", question.images[:2], id="b1", client="tab")
    undone = store.undo(client="tab", id="u")
    assert undone is not None and undone.vote.ballot == "b1"
    assert [line["kind"] for line in lines(store)][-1] == "undo"
    progress = store.progress()
    assert (progress.answered, progress.open, progress.total, progress.groups_answered) == (0, 6, 6, 0)
    assert store.next_groups(1) == [question], "the same images in the same order"
    assert store.undo(client="tab", id="u") == undone and store.undo(client="tab") is None
    sent_late = store.judge("g", question.images[:2], id="b1")
    assert isinstance(sent_late, RecordedBallot) and store.progress().answered == 0
    assert {it.status for it in store.history()} == {"undone"}
    assert PreferenceStore(store.folder).progress() == progress


def test_undo_by_the_name_of_the_ballot_and_by_earlier_pages(four):
    store, question = four
    store.judge("g", question.images[:1], id="b1", client="page-1")
    assert store.undo("b1", client="page-2") is None
    assert store.undo(client="page-2") is None
    found = store.undo(client="page-2", earlier=["page-0", "page-1"])
    assert found is not None and found.vote.ballot == "b1"
    store.judge("g", question.images[:1], id="b2", client="page-2")
    named = store.undo("b2", client="page-2")
    assert named is not None and store.progress().answered == 0


def test_own_votes_are_taken_back_before_those_of_earlier_pages(store):
    store.add_group("a", pictures(1, 2), id="a")
    store.add_group("b", pictures(3, 4), id="b")
    first, second = store.next(2)
    store.vote(first.pair, "tie", id="mine", client="new")
    store.vote(second.pair, "tie", id="theirs", client="old")
    taken = [store.undo(client="new", earlier=["old"]) for _ in range(3)]
    assert [it and it.vote.id for it in taken] == ["mine", "theirs", None]


def test_a_ballot_that_a_crash_cut_short_is_completed(four):
    store, question = four
    store.judge("g", question.images[:1], id="b1")
    path = store.folder / "preferences.jsonl"
    whole = path.read_bytes()
    kept = whole.splitlines(keepends=True)[:-2]
    path.write_bytes(b"".join(kept) + whole.splitlines(keepends=True)[-2][:40])  # one line and a half of three
    again = PreferenceStore(store.folder)
    assert again.broken() == [] and again.progress().wins == 1
    assert again.next_groups(1) == [], "the group is closed by what was written"
    answer = again.judge("g", question.images[:1], id="b1")
    assert isinstance(answer, RecordedBallot) and len(answer.votes) == 3
    assert again.progress().wins == 3 and len({line["id"] for line in lines(again)}) == len(lines(again))


JUDGE = """
import sys
from pathlib import Path
from dspo_train.preferences import PreferenceStore
store = PreferenceStore(Path(sys.argv[1]))
while asked := store.next_groups(1):
    answer = store.judge(asked[0].group, asked[0].images[:1], bad=asked[0].images[-1:])
    print(answer.ballot, flush=True)
"""


def test_killed_while_judging_loses_no_ballot_that_was_answered(store):
    for number in range(300):
        store.add_group(f"{number}", pictures(*range(4 * number, 4 * number + 4)), id=f"g{number}")
    told: list[str] = []
    for count in (3, 20, 41):
        command = [sys.executable, "-c", JUDGE, str(store.folder)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        told += [process.stdout.readline().strip() for _ in range(count)]
        process.kill()
        rest = process.stdout.read()
        process.wait()
        told += rest[: rest.rfind("\n") + 1].split()
    again = PreferenceStore(store.folder)
    assert again.broken() == []
    assert len(told) >= 64 and {*told} <= {line.get("ballot") for line in lines(again)}
    assert again.progress() == store.progress()


def test_a_skip_a_tie_and_all_bad_are_kept_as_what_they_are(store):
    for name in "abc":
        store.add_group(name, pictures(*range(10 * ord(name), 10 * ord(name) + 3)), id=name)
    images = {question.group: question.images for question in store.next_groups(3)}
    store.judge("a", skip=True)
    store.judge("b")
    store.judge("c", bad=images["c"])
    progress = store.progress()
    assert (progress.skips, progress.ties, progress.bads, progress.wins) == (3, 3, 3, 0)
    assert progress.groups_answered == 3
    assert {judged.vote.outcome for judged in store.judged(ties=True)} == {"tie", "bad"}
    assert store.judged() == []


def test_a_pair_may_be_bad_too(store):
    store.add_group("a", pictures(1, 2), id="a")
    (question,) = store.next_groups(1)
    assert isinstance(question, Question), "two show side by side"
    store.vote(question.pair, "bad", id="v")
    assert store.progress().bads == 1
    assert [(it.image, it.liked) for it in store.opinions()] == [
        (name, False) for name in sorted(store.groups()[0].names)
    ]


def test_opinions_come_from_what_was_called_bad(store):
    for name, shades in (("a", range(4)), ("b", range(10, 14)), ("c", range(20, 24))):
        store.add_group(name, pictures(*shades), id=name)
    (a, b, c) = (store.groups()[n].names for n in range(3))
    store.judge("a", [a[0]], [a[3]])  # a[1] and a[2] are neither
    store.judge("b", bad=[b[0]])
    store.judge("c", [c[0]])  # says nothing about an image by itself
    found = {(it.image, it.prompt): it.liked for it in store.opinions()}
    assert found == {
        (a[0], "a"): True,
        (a[3], "a"): False,
        (b[0], "b"): False,
        **{(image, "b"): True for image in b[1:]},
    }
    store.undo()  # the last ballot, on c
    store.undo()
    assert {it.prompt for it in store.opinions()} == {"a"}


def test_images_removed_before_and_after(four):
    store, question = four
    best, other = question.images[:2]
    store.remove(other)
    assert isinstance(store.judge("g", [other], images=question.images), Gone)
    answer = store.judge("g", [best], images=question.images)
    assert isinstance(answer, RecordedBallot) and len(answer.votes) == 2
    store.remove(best)
    progress = store.progress()
    assert (progress.answered, progress.open, progress.total) == (0, 1, 1), "what is left is asked: the ballot is gone"
    store.restore(best)
    assert (store.progress().answered, store.progress().open) == (2, 0)


def test_single_votes_in_the_group_give_way_to_a_better_image_only(four):
    store, question = four
    a, b, c, _ = question.images
    pair = next(it for it in store.next(6) if {it.left, it.right} == {a, b})
    store.vote(pair.pair, "win", a, id="v")
    store.judge("g", [b], images=question.images, id="b1")
    winners = {frozenset(it.images): it.winner for it in store.judged()}
    assert winners[frozenset((a, b))] == b
    store.undo("b1")
    assert [it.winner for it in store.judged()] == [a]
    store.judge("g", images=question.images, id="b2")  # none is better: the vote stands
    assert [it.winner for it in store.judged()] == [a]
    assert store.progress().ties == 5
    assert c in question.images


def test_more_than_nine_are_asked_in_pairs(store):
    store.add_group("many", pictures(*range(10)), id="g")
    store.add_group("nine", pictures(*range(20, 29)), id="h")
    found = store.next_groups(9)
    grids = [it for it in found if isinstance(it, GroupQuestion)]
    pairs = [it for it in found if isinstance(it, Question)]
    assert [it.group for it in grids] == ["h"] and len(grids[0].images) == 9
    assert len(pairs) == 8 and {it.group for it in pairs} == {"g"} and len({it.pair for it in pairs}) == 8
    skip = [grids[0].group, *(it.pair for it in pairs)]
    assert not {it.pair for it in store.next_groups(99, skip) if isinstance(it, Question)} & {*skip}
    assert len(store.next_groups(99, skip)) == 45 - 8


def test_groups_by_their_prompt(store):
    for number, name in enumerate(("Red dog", "blue dog", "red cat")):
        store.add_group(name, pictures(*range(10 * number, 10 * number + 3)), id=f"g{number}")
    assert {it.prompt for it in store.next_groups(9, find="RED")} == {"Red dog", "red cat"}
    assert {it.prompt for it in store.next(9, find="dog")} == {"Red dog", "blue dog"}


def test_a_disk_that_fills_up_leaves_no_part_of_a_ballot(four, monkeypatch):
    import dspo_train.preferences.log as log

    store, question = four
    before = lines(store)
    real = log._write_all

    def full(handle, data):
        real(handle, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(log, "_write_all", full)
    with pytest.raises(Exception, match=r"No space left|full"):
        store.judge("g", question.images[:1], id="b1")
    monkeypatch.undo()
    assert lines(store) == before and store.progress().answered == 0
    assert isinstance(store.judge("g", question.images[:1], id="b1"), RecordedBallot)


def test_unknown_groups_are_refused(four):
    store, _ = four
    with pytest.raises(DatasetError, match="no group"):
        store.judge("none-such")
    with pytest.raises(DatasetError, match="not among"):
        store.judge("g", ["images/0000000000000000.png"])
