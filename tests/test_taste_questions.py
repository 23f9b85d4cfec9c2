"""Which questions tell most, and how images stand: arithmetic on heads that are written down."""

from __future__ import annotations

import math

import numpy as np
import pytest
from test_preferences_tabs import filled

from dspo_train.preferences.entries import canonical
from dspo_train.taste.assessment import Assessment, unknown
from dspo_train.taste.comparisons import from_store
from dspo_train.taste.head import Head
from dspo_train.taste.questions import LAST, Questions, most_telling, near_duplicates
from dspo_train.taste.standing import ranked, standing
from dspo_train.taste.summary import SUMMARY_FILE, find_summary, note_summary, summary_of

A, B, C, D = (f"images/{name * 16}.png" for name in "abcd")


def head(*members: tuple[float, ...]) -> Head:
    """Row 0 is the mean of the others, as the fit to everything about is; features are as they are."""
    rows = np.array([np.mean(members, 0), *members])
    width = rows.shape[1]
    return Head(np.zeros(width), np.ones(width), rows, 1.0, 1.0)


def vectors(**named: tuple[float, ...]) -> dict[str, np.ndarray]:
    return {{"a": A, "b": B, "c": C, "d": D}[name]: np.array(row, np.float16) for name, row in named.items()}


def test_members_that_contradict_each_other_make_a_question_worth_asking():
    """On the first axis all members agree; on the second, two say sigmoid(3) and two sigmoid(-3), and row 0 a half."""
    members = (4.0, 3.0), (4.0, -3.0)
    told = most_telling(head(*members), vectors(a=(0, 0), b=(1, 0), c=(0, 1)), [[A, B, C]], 7)
    p = 1 / (1 + math.exp(-3))
    entropy = -(p * math.log(p) + (1 - p) * math.log(1 - p))
    assert told.worth(canonical(A, B)) == pytest.approx(0, abs=1e-12)
    assert told.worth(canonical(A, C)) == pytest.approx(math.log(2) - (2 * entropy + math.log(2)) / 3)
    assert told.worth(canonical(A, C)) > told.worth(canonical(B, C)) > 0
    assert told.clicks == 7


def test_an_image_without_features_and_another_group_are_worth_nothing():
    told = most_telling(head((1.0,), (-1.0,)), vectors(a=(0,), b=(1,), c=(5,)), [[A, B, D], [C, D]], 0)
    assert set(told.worths) == {canonical(A, B)}
    assert told.worth(canonical(A, D)) == told.worth(canonical(A, C)) == 0
    assert most_telling(head((1.0,)), {}, [[A, B]], 0).worths == {}


def test_near_duplicates_come_last():
    """Distances 10, 10 and 1 to each other: the median is 10, and 1 is less than a third of it."""
    told = most_telling(head((1.0,), (-1.0,)), vectors(a=(0,), b=(1,), c=(10.5,)), [[A, B, C]], 0)
    assert told.worth(canonical(A, B)) == LAST
    assert min(told.worth(canonical(A, C)), told.worth(canonical(B, C))) > 0


def test_typical_is_the_median_whatever_one_distance_is():
    assert near_duplicates(np.array([0.3, 1.0, 1.0, 1.0, 1e9])).tolist() == [True, False, False, False, False]
    assert not near_duplicates(np.ones(4)).any()
    assert not near_duplicates(np.zeros(4)).any()  # all are alike: none is more alike than is usual


def test_near_is_judged_on_standardised_features():
    """Of two features the second varies a hundred times as much: unscaled, the first would count for nothing."""
    scaled = Head(np.zeros(2), np.array([1.0, 100.0]), np.array([[1.0, 0.01], [-1.0, 0.01]]), 1.0, 1.0)
    told = most_telling(scaled, vectors(a=(0, 0), b=(3, 0), c=(0, 300), d=(0, 310)), [[A, B, C, D]], 0)
    assert {pair for pair, worth in told.worths.items() if worth == LAST} == {canonical(C, D)}


def test_standing_is_the_expected_share_of_the_others():
    """Scores 0, ln 3 and -ln 3: against each other 3/4 and 1/4, and the outer two at 2 ln 3 are 9/10 and 1/10."""
    rows = np.array([[0.0], [math.log(3)], [-math.log(3)]])
    found = standing(head((1.0,)), rows)
    assert found == pytest.approx([(0.25 + 0.75) / 2, (0.75 + 0.9) / 2, (0.25 + 0.1) / 2])
    assert [name for name, _ in ranked(head((1.0,)), {"a": rows[0], "b": rows[1], "c": rows[2]})] == ["b", "a", "c"]
    assert ranked(head((1.0,)), {}) == ()
    assert standing(head((1.0,)), rows[:1]).tolist() == [0.5]
    assert standing(head((1.0,)), rows[:0]).tolist() == []


def test_standing_of_many_is_near_that_against_all():
    rows = np.random.default_rng(0).normal(size=(1500, 1))
    found = standing(head((1.0,), (1.2,)), rows)
    each = 1 / (1 + np.exp(-(rows[:, 0, None] - rows[None, :, 0])))
    assert np.abs(found - each.mean(1)).max() < 0.03  # of another member too, at 1.2 and 1.1
    assert (np.argsort(found) == np.argsort(rows[:, 0])).all()


def test_answers_that_a_guide_chose_do_not_count_once_there_are_enough_others(tmp_path, monkeypatch):
    """25 wins before the guide, and of 8 with it two at random. Without the 25 there are too few: all count."""
    monkeypatch.setattr("dspo_train.preferences.live.secrets.token_hex", lambda count: "5e" * count)
    store = filled(tmp_path / "set", 60, 2)
    for asked in store.next(25):
        store.vote(asked.pair, "win", asked.left)
    guide = Questions({}, store.clicks)
    for _ in range(8):
        (asked,) = store.next(guide=guide)
        store.vote(asked.pair, "win", asked.left)
    assert from_store(store).counted.tolist().count(False) == 6
    few = filled(tmp_path / "few", 60, 2)
    for _ in range(8):
        (asked,) = few.next(guide=guide)
        few.vote(asked.pair, "win", asked.left)
    assert from_store(few).counted.all()
    while store.progress().open:
        (asked,) = store.next(guide=guide)
        store.vote(asked.pair, "win", asked.left)
    assert from_store(store).counted.all()


def test_a_summary_is_plain_and_lies_beside_the_set(tmp_path):
    few = summary_of(unknown(8, 3, 8, 3), 8)
    assert few == {**dict.fromkeys(("accuracy", "low", "high", "more")), "outlook": "few", "clicks": 8, "enough": 20}
    known = summary_of(Assessment(40, 9, 0.86, 0.81, 0.9, 0.4, (), 0.8, 30, "", "more"), 38)
    assert (known["accuracy"], known["more"], known["outlook"], known["clicks"]) == (0.86, 30, "more", 38)
    assert find_summary(tmp_path) is None
    note_summary(tmp_path, known)
    assert find_summary(tmp_path) == known
    (tmp_path / SUMMARY_FILE).write_text("{")
    assert find_summary(tmp_path) is None
