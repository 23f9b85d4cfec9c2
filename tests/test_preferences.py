"""A set of preferences as one page uses it: asking, voting, undoing, removing."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import os
import threading
from collections import Counter

import pytest
from PIL import Image

from dspo_train.exceptions import DatasetError
from dspo_train.preferences import Already, Gone, NewImage, PreferenceStore, Recorded


def png(shade: int, **options) -> bytes:
    """A plain picture; another shade (0 to 65,535) is another picture."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (shade % 256, 255 - shade % 256, shade // 256)).save(
        buffer, **{"format": "PNG", **options}
    )
    return buffer.getvalue()


def pictures(*shades: int) -> list[NewImage]:
    return [NewImage(png(shade), seed=shade) for shade in shades]


def lines(store: PreferenceStore) -> list[dict]:
    text = (store.folder / "preferences.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def store(tmp_path):
    return PreferenceStore(tmp_path / "set")


@pytest.fixture
def duel(store):
    """A set with one group of two pictures; the store and its only pair."""
    store.add_group("a cat", pictures(1, 2), id="g")
    return store, store.next()[0]


def test_what_stands_in_the_file(store):
    group = store.add_group(
        "eine Katze", [NewImage(png(1), 7, "base"), NewImage(png(2, format="JPEG"))], settings={"steps": 20}
    )
    (question,) = store.next()
    store.vote(question.pair, "win", question.left, id="v1", client="tab", seconds=1.23456)
    header, added, vote = lines(store)
    assert (header["kind"], header["version"], header["id"]) == ("set", 1, store.id)
    names = [picture["image"] for picture in added["images"]]
    assert [name[-4:] for name in names] == [".png", ".jpg"]
    assert (store.folder / names[0]).read_bytes() == png(1)
    assert added["images"][0] == {"image": names[0], "seed": 7, "arm": "base"}
    assert (added["prompt"], added["schedule"], added["settings"]) == ("eine Katze", "all", {"steps": 20})
    del vote["time"]
    assert vote == {
        "kind": "vote",
        "id": "v1",
        "group": group.id,
        "pair": sorted(names),
        "outcome": "win",
        "winner": question.left,
        "client": "tab",
        "left": question.left,
        "seconds": 1.235,
    }


def test_a_vote_answers_the_question(duel):
    store, question = duel
    assert (question.group, question.prompt) == ("g", "a cat")
    assert isinstance(store.vote(question.pair, "win", question.right, id="v"), Recorded)
    assert store.next(5) == []
    (judged,) = store.judged()
    assert (judged.winner, judged.loser, judged.prompt) == (question.right, question.left, "a cat")


def test_the_same_vote_sent_twice_is_recorded_once(duel):
    store, question = duel
    first = store.vote(question.pair, "tie", id="v")
    assert store.vote(question.pair, "tie", id="v") == first
    assert [line["kind"] for line in lines(store)] == ["set", "group", "vote"]
    assert PreferenceStore(store.folder).vote(question.pair, "tie", id="v") == first


def test_a_second_tab_is_told_and_writes_nothing(duel):
    store, question = duel
    store.vote(question.pair, "win", question.left, id="one")
    other = PreferenceStore(store.folder)
    answer = other.vote(question.pair, "win", question.right, id="two")
    assert isinstance(answer, Already)
    assert answer.vote.id == "one"
    assert len(lines(store)) == 3


def test_a_relabel_replaces_and_its_undo_brings_the_first_back(duel):
    store, question = duel
    store.vote(question.pair, "win", question.left, id="first")
    store.relabel(question.pair, "win", question.right, id="second")
    assert [(it.vote.id, it.status) for it in store.history()] == [("second", "counts"), ("first", "replaced")]
    assert store.judged()[0].winner == question.right
    undone = store.undo(id="u")
    assert undone is not None and undone.vote.id == "second"
    assert store.judged()[0].winner == question.left
    assert store.undo(id="u") == undone  # sent again
    assert [line["kind"] for line in lines(store)] == ["set", "group", "vote", "vote", "undo"]


def test_undo_reopens_and_takes_back_the_clients_own(store):
    store.add_group("a", pictures(1, 2), id="a")
    store.add_group("b", pictures(3, 4), id="b")
    first, second = store.next(2)
    store.vote(first.pair, "tie", id="x1", client="x")
    store.vote(second.pair, "tie", id="y1", client="y")
    undone = store.undo(client="x")
    assert undone is not None and undone.vote.id == "x1"
    assert store.next(5) == [first]
    assert store.undo(client="x") is None
    assert store.undo("x1") is None
    assert isinstance(store.vote(first.pair, "tie", id="x2"), Recorded)
    assert isinstance(store.vote(first.pair, "tie", id="x1"), Recorded)  # a late retry of the undone vote
    assert store.progress().ties == 2


def test_progress_counts_by_hand(store):
    """Four pictures: six pairs. One won, one tied, one skipped, three open."""
    store.add_group("a", pictures(1, 2, 3, 4), id="a")
    asked = store.next(3)
    store.vote(asked[0].pair, "win", asked[0].left)
    store.vote(asked[1].pair, "tie")
    store.vote(asked[2].pair, "skip")
    found = dataclasses.asdict(store.progress())
    assert found == dict(
        answered=3,
        open=3,
        total=6,
        wins=1,
        ties=1,
        skips=1,
        bads=0,
        groups_answered=0,
        groups_total=1,
        groups={"a": (3, 6)},
    )
    assert [judged.winner is None for judged in store.judged(ties=True)] == [False, True]
    assert len(store.judged()) == 1


def test_removing_a_picture_and_putting_it_back(store):
    """Of three pictures one goes: one pair of three is left, and the vote on a removed pair does not count."""
    group = store.add_group("a", pictures(1, 2, 3), id="a")
    question = next(q for q in store.next(3) if group.names[0] in (q.left, q.right))
    store.vote(question.pair, "win", question.left, id="v")
    assert store.remove(group.names[0], id="r") is not None
    assert store.remove(group.names[0]) is None
    assert store.progress().total == 1
    assert store.judged() == []
    assert store.history()[0].status == "removed"
    assert store.undo() is None
    assert isinstance(store.vote(question.pair, "tie"), Gone)
    assert store.restore(group.names[0]) is not None
    assert (store.progress().total, len(store.judged())) == (3, 1)
    assert store.remove("a") is not None
    assert (store.progress().total, store.next(9), store.groups()) == (0, [], [])
    assert [line["kind"] for line in lines(store)] == ["set", "group", "vote", "remove", "restore", "remove"]


def test_prompts_alternate(store):
    """Three groups of three pairs each: never the same prompt twice in a row, voting one by one or asking ahead."""
    for number in range(3):
        store.add_group(f"{number}", pictures(*range(10 * number, 10 * number + 3)))
    ahead = [question.prompt for question in store.next(9)]
    one_by_one = []
    while asked := store.next():
        one_by_one.append(asked[0].prompt)
        store.vote(asked[0].pair, "skip")
    assert ahead == one_by_one == list("012012012")


def test_what_a_tab_shows_already_is_not_asked_again(store):
    store.add_group("a", pictures(1, 2, 3))
    store.add_group("b", pictures(4, 5, 6))
    shown: list[str] = []
    for _ in range(7):
        shown += [question.pair for question in store.next(1, shown)]
    assert len(shown) == len({*shown}) == 6
    assert [pair.split(".")[0] for pair in shown] == [pair.split(".")[0] for pair in shown[:2]] * 3


def test_sides_are_hidden_and_stay(store):
    """Over 100 pairs the first picture of a group is on the left about half the time (5 sigma: 25 to 75)."""
    for number in range(100):
        store.add_group("x", pictures(2 * number, 2 * number + 1))
    first = {group.names[0] for group in store.groups()}
    asked = store.next(100)
    assert 25 < sum(question.left in first for question in asked) < 75
    assert PreferenceStore(store.folder).next(100) == asked


def test_another_set_has_other_sides(tmp_path):
    asked = []
    for name in "ab":
        store = PreferenceStore(tmp_path / name)
        for number in range(40):
            store.add_group("x", pictures(2 * number, 2 * number + 1), id=f"g{number}")
        asked.append([question.left for question in store.next(40)])
    assert asked[0] != asked[1]


def test_a_picture_in_two_groups_is_stored_once(store):
    path = store.folder / store.add_group("a", pictures(1, 2)).names[1]
    os.utime(path, (1000, 1000))
    store.add_group("b", pictures(2, 3))
    assert len(list(path.parent.iterdir())) == 3
    assert path.stat().st_mtime == 1000  # not written again


def test_a_picture_cut_short_is_written_again(store):
    path = store.folder / store.add_group("a", pictures(1, 2)).names[1]
    path.write_bytes(png(2)[:50])
    store.add_group("b", pictures(2, 3))
    assert path.read_bytes() == png(2)


def test_a_picture_given_twice_counts_once(store):
    group = store.add_group("a", [*pictures(1, 2), NewImage(png(1), seed=99)])
    assert [picture.seed for picture in group.images] == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a", [NewImage(png(1))]), "2 to 64 images"),
        (("a", pictures(1, 1)), "2 to 64 images"),
        (("a", pictures(*range(65))), "2 to 64 images"),
        (("a", [NewImage(b"GIF89a"), *pictures(1)]), "PNG, JPEG or WebP"),
        (("a" * 16385, pictures(1, 2)), "16385 characters"),
        (("a", pictures(1, 2), "some"), "schedule 'some'"),
        (("a", pictures(1, 2), "all", {"x": float("nan")}), "cannot be written as JSON"),
        (("a", pictures(1, 2), "all", {"x": object()}), "cannot be written as JSON"),
    ],
)
def test_a_bad_group_is_refused_and_leaves_no_trace(store, arguments, message):
    with pytest.raises(DatasetError, match=message):
        store.add_group(*arguments)
    assert len(lines(store)) == 1


@pytest.mark.parametrize(
    "prompt", ["", "two\nlines", 'quo"tes', "夕暮れ\u2028x", "half \ud800 a pair", "z\0ero", "\r\n"]
)
def test_any_prompt_comes_back_on_one_line_of_the_file(store, prompt):
    kept = prompt.replace("\0", "").strip().replace("\ud800", "?")
    assert store.add_group(prompt, pictures(1, 2)).prompt == kept
    assert (store.folder / "preferences.jsonl").read_bytes().count(b"\n") == 2
    assert PreferenceStore(store.folder).groups()[0].prompt == kept


@pytest.mark.parametrize(
    ("outcome", "winner", "options", "message"),
    [
        ("win", None, {}, "winner nothing"),
        ("win", "images/0123456789abcdef.png", {}, "one of the pair"),
        ("win", "../../secret.png", {}, "one of the pair"),
        ("tie", "left", {}, "left out otherwise"),
        ("best", None, {}, "outcome 'best'"),
        ("tie", None, {"id": "no spaces please"}, "the id 'no spaces"),
        ("tie", None, {"seconds": -1.0}, "seconds -1.0"),
        ("tie", None, {"seconds": float("inf")}, "cannot be written as JSON"),
    ],
)
def test_a_bad_vote_is_refused_and_leaves_no_trace(duel, outcome, winner, options, message):
    store, question = duel
    with pytest.raises(DatasetError, match=message):
        store.vote(question.pair, outcome, question.left if winner == "left" else winner, **options)
    assert len(lines(store)) == 2
    assert isinstance(store.vote(question.pair, "tie"), Recorded)


@pytest.mark.parametrize("pair", ["", "g", "g.a.b", "x.0123456789abcdef.0123456789abcdee", "../g.a.b"])
def test_an_unknown_pair_is_refused(duel, pair):
    with pytest.raises(DatasetError, match="there is no pair"):
        duel[0].vote(pair, "tie")


def test_unknown_names_are_refused(duel):
    store, _ = duel
    for call in (store.undo, store.remove, store.restore):
        with pytest.raises(DatasetError, match="there is no"):
            call("nothing")


def test_history_pages_newest_first(store):
    store.add_group("a", pictures(1, 2, 3, 4))
    for number, question in enumerate(store.next(6)):
        store.vote(question.pair, "skip", id=f"v{number}")
    assert [it.vote.id for it in store.history(0, 2)] == ["v5", "v4"]
    assert [it.vote.id for it in store.history(4, 5)] == ["v1", "v0"]
    assert store.history(6, 5) == []


def test_a_swiss_group_opens_round_by_round(store):
    """Four pictures: two rounds of two."""
    store.add_group("a", pictures(1, 2, 3, 4), "swiss")
    for _ in range(2):
        asked = store.next(9)
        assert len(asked) == 2
        for question in asked:
            store.vote(question.pair, "win", max(question.left, question.right))
    assert store.next(9) == []
    assert store.progress().total == store.progress().answered == 4


def test_a_reload_knows_the_same(store):
    """After a random-looking history of every kind of entry."""
    for number, schedule in enumerate(["all", "swiss", "neighbours"]):
        store.add_group(f"p{number}", pictures(*range(10 * number, 10 * number + 5)), schedule)
    for turn in range(14):
        question = store.next()[0]
        store.vote(question.pair, *[("win", question.left), ("tie",), ("skip",)][turn % 3])
        if turn % 4 == 3:
            store.undo()
        if turn % 5 == 4:
            store.relabel(question.pair, "win", question.right)
    store.remove(store.groups()[0].names[0])
    again = PreferenceStore(store.folder)
    assert again.progress() == store.progress()
    assert again.next(50) == store.next(50)
    assert again.history(0, 99) == store.history(0, 99)
    assert again.judged(ties=True) == store.judged(ties=True)
    assert again.broken() == []


def test_counts_kept_up_to_date_are_those_counted_anew(store):
    """Each step's progress equals that of a store which reads the whole file."""
    store.add_group("a", pictures(1, 2, 3, 4), "swiss", id="a")
    store.add_group("b", pictures(2, 3, 5), id="b")
    shared = store.groups()[0].names[1]
    steps = [
        lambda: store.vote(store.next()[0].pair, "tie"),
        lambda: store.vote(store.next()[0].pair, "skip"),
        lambda: store.remove(shared),
        lambda: store.vote(store.next()[0].pair, "tie"),
        lambda: store.undo(),
        lambda: store.restore(shared),
        lambda: store.remove("b"),
        lambda: store.undo(),
        lambda: store.restore("b"),
    ]
    seen = set()
    for step in steps:
        step()
        found = PreferenceStore(store.folder)
        assert (store.progress(), store.next(99)) == (found.progress(), found.next(99))
        seen.add(str(store.progress()))
    assert len(seen) >= 6


def test_threads_vote_each_pair_once(store):
    """Eight threads answer 66 pairs, all asking for the same ones: 66 votes in the file, each pair once."""
    store.add_group("a", pictures(*range(12)))
    ids = itertools.count()

    def work():
        while asked := store.next(1):
            store.vote(asked[0].pair, "tie", id=f"v{next(ids)}")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    votes = Counter(tuple(line["pair"]) for line in lines(store) if line["kind"] == "vote")
    assert len(votes) == 66 and set(votes.values()) == {1}
    assert store.progress().ties == 66
