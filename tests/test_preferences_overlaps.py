"""The same two images in several groups of a prompt are one pair: asked once, counted once."""

from __future__ import annotations

import itertools

import pytest
from test_preferences import lines, pictures

from dspo_train.preferences import Already, PreferenceStore, RecordedBallot


@pytest.fixture
def twice(tmp_path):
    """One prompt run with seed 1, then with seed 2: images 1 to 4, and 2 to 5. Nine distinct pairs and not twelve."""
    store = PreferenceStore(tmp_path / "set")
    store.add_group("a cat", pictures(1, 2, 3, 4), id="first")
    store.add_group("a cat", pictures(2, 3, 4, 5), id="second")
    return store


def asked(store: PreferenceStore) -> list[frozenset[str]]:
    """The images of every question there is, voting as they come."""
    found = []
    while questions := store.next(1):
        found.append(frozenset((questions[0].left, questions[0].right)))
        store.vote(questions[0].pair, "win", questions[0].left)
    return found


def test_totals_are_of_distinct_pairs(twice):
    progress = twice.progress()
    assert (progress.open, progress.total) == (9, 9)
    assert progress.groups == {"first": (0, 6), "second": (0, 3)}
    assert len({frozenset((it.left, it.right)) for it in twice.next(99)}) == len(twice.next(99)) == 9


def test_no_pair_is_asked_twice(twice):
    found = asked(twice)
    assert len(found) == len({*found}) == 9
    assert (twice.progress().answered, twice.progress().wins) == (9, 9)
    assert len(twice.judged()) == 9


def test_another_prompt_asks_again(twice):
    twice.add_group("a dog", pictures(1, 2, 3, 4), id="third")
    assert twice.progress().total == 15


def test_the_order_of_judging_does_not_matter(twice):
    """The second group's own three pairs, and the three that it shares and the first one asks."""
    own = [it for it in twice.next(99) if it.group == "second"]
    assert len(own) == 3
    images = {name: shade for name, shade in zip(twice.groups()[1].names, (2, 3, 4, 5), strict=True)}
    shared = next(it for it in twice.next(99) if {it.left, it.right} <= {*images})
    as_second = shared.pair.replace("first", "second")
    twice.vote(as_second, "win", shared.left, id="v")  # held by a tab since before the first group was there
    assert twice.progress().total == 9
    assert shared.pair not in [it.pair for it in twice.next(99)]
    answer = twice.vote(shared.pair, "win", shared.right)
    assert isinstance(answer, Already) and answer.vote.id == "v"
    twice.relabel(shared.pair, "win", shared.right)
    (judged,) = twice.judged()
    assert judged.winner == shared.right and judged.vote.group == "second"


def test_a_removed_group_gives_its_pairs_up(twice):
    twice.remove("first")
    assert (twice.progress().total, twice.progress().groups_total) == (6, 1)
    twice.restore("first")
    assert twice.progress().total == 9


def test_grids_one_after_the_other(twice):
    """The second grid shows all of its images, as each has a pair of its own; what the first judged stays."""
    first, second = twice.next_groups(9)
    assert {len(first.images), len(second.images)} == {4}
    shared = [image for image in first.images if image in second.images]
    twice.judge("first", [shared[0]], images=first.images)
    assert (twice.progress().answered, twice.progress().open) == (3, 3)
    (left,) = twice.next_groups(9)
    new = next(image for image in second.images if image not in first.images)
    answer = twice.judge("second", [new], images=left.images)
    assert isinstance(answer, RecordedBallot) and len(answer.votes) == 3
    assert (twice.progress().answered, twice.progress().total, twice.progress().groups_answered) == (6, 6, 2)
    winners = [judged.winner for judged in twice.judged()]
    assert sorted(winners.count(image) for image in {*winners}) == [3, 3]


def test_a_pair_judged_by_a_grid_keeps_its_vote_in_the_next(twice):
    first, second = twice.next_groups(9)
    a, b = [image for image in first.images if image in second.images][:2]
    twice.judge("first", [a], images=first.images)
    twice.judge("second", [b], images=second.images)
    votes = {frozenset(it.images): it.winner for it in twice.judged()}
    assert votes[frozenset((a, b))] == a
    assert len([line for line in lines(twice) if line["kind"] == "vote"]) == 3 + 2
    assert twice.progress().answered == 5


def test_the_same_images_again_ask_nothing(twice):
    twice.add_group("a cat", pictures(2, 3, 4), schedule="neighbours", id="again")
    progress = twice.progress()
    assert (progress.total, progress.groups_total, progress.groups["again"]) == (9, 2, (0, 0))


def test_a_swiss_tournament_takes_what_was_judged_elsewhere(tmp_path):
    """Four images, two rounds of two; one of the first round is known from another group."""
    store = PreferenceStore(tmp_path / "set")
    store.add_group("p", pictures(1, 2), id="duel")
    store.add_group("p", pictures(1, 2, 3, 4), schedule="swiss", id="swiss")
    found = asked(store)
    assert len(found) == len({*found})
    assert store.progress().open == 0 and store.progress().groups_answered == 2
    duel = store.groups()[0]
    assert sum(pair == frozenset(duel.names) for pair in found) == 1


def test_counts_kept_up_to_date_are_those_counted_anew(tmp_path):
    """Votes, ballots, undos and removals over groups that overlap, against a store that reads the file."""
    store = PreferenceStore(tmp_path / "set")
    for number in range(4):
        store.add_group("p", pictures(*range(number, number + 4)), id=f"g{number}")
    everything = {frozenset(pair) for group in store.groups() for pair in itertools.combinations(group.names, 2)}
    assert store.progress().total == len(everything) == 15
    steps = [
        lambda: store.vote(store.next(1)[0].pair, "tie"),
        lambda: store.judge("g2", store.groups()[2].names[:1]),
        lambda: store.remove(store.groups()[1].names[0]),
        lambda: store.undo(),
        lambda: store.remove("g0"),
        lambda: store.vote(store.next(1)[0].pair, "bad"),
        lambda: store.restore("g0"),
        lambda: store.judge("g3", bad=store.groups()[3].names[1:2]),
    ]
    for step in steps:
        step()
        assert PreferenceStore(store.folder).progress() == store.progress()
        counted = [frozenset(it.images) for it in store.judged(ties=True)]
        assert len(counted) == len({*counted})
    asked(store)
    assert store.progress().open == 0
