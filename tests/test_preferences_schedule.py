"""Which pairs are asked: worked by hand for few pictures, then as properties of whole tournaments."""

from __future__ import annotations

import itertools
import random
from typing import NamedTuple

import pytest

from dspo_train.preferences.entries import Outcome, canonical
from dspo_train.preferences.schedule import expected, questions


class Said(NamedTuple):
    outcome: Outcome
    winner: str | None = None


def by_strength(pair):
    """The later letter is the better picture."""
    return Said("win", max(pair))


def played(schedule, images, answers=()):
    """Answer everything that is open, one question at a time; all answers in the order in which they were given."""
    answers = dict(answers)
    while asked := questions(schedule, images, answers, "s"):
        assert asked[0] not in answers
        answers[asked[0]] = by_strength(asked[0])
    return answers


@pytest.mark.parametrize(
    ("schedule", "count", "total"),
    [
        ("all", 2, 1),
        ("all", 5, 10),
        ("neighbours", 5, 4),
        ("swiss", 2, 1),
        ("swiss", 4, 4),  # 2 rounds of 2
        ("swiss", 5, 6),  # 3 rounds of 2, one rests in each
        ("swiss", 8, 12),
        ("swiss", 9, 16),  # 4 rounds of 4
        ("all", 1, 0),
        ("swiss", 0, 0),
    ],
)
def test_expected_by_hand(schedule, count, total):
    assert expected(schedule, count) == total


@pytest.mark.parametrize("schedule", ["all", "neighbours", "swiss"])
def test_a_whole_tournament_asks_as_many_as_expected(schedule):
    for count in (*range(2, 18), 31, 64):
        images = [f"{i:02d}" for i in range(count)]
        assert len(played(schedule, images)) == expected(schedule, count), count


def test_all_shows_every_picture_once_before_any_again():
    """Six pictures, five rounds of three pairs: each round holds all six."""
    asked = questions("all", list("abcdef"), {}, "s")
    assert sorted(asked) == list(itertools.combinations("abcdef", 2))
    for start in range(0, 15, 3):
        assert sorted("".join(map("".join, asked[start : start + 3]))) == list("abcdef")


def test_neighbours_in_the_order_given():
    assert questions("neighbours", list("cab"), {}, "s") == [("a", "c"), ("a", "b")]
    assert questions("neighbours", list("cab"), {("a", "c"): Said("tie")}, "s") == [("a", "b")]


def test_swiss_second_round_by_hand():
    """Of four, the two winners of the first round meet, and the two losers; not before both games are over."""
    first = questions("swiss", list("abcd"), {}, "s")
    assert sorted("".join(map("".join, first))) == list("abcd")
    answers = {first[0]: by_strength(first[0])}
    assert questions("swiss", list("abcd"), answers, "s") == [first[1]]
    answers[first[1]] = by_strength(first[1])
    winners, losers = (canonical(*(choose(pair) for pair in first)) for choose in (max, min))
    assert questions("swiss", list("abcd"), answers, "s") == [winners, losers]


def test_swiss_pairs_equals():
    """Eight pictures, no ties: in the second round the four winners meet each other, and the four losers."""
    images = list("abcdefgh")
    for seed in "0123456789":
        answers = {pair: by_strength(pair) for pair in questions("swiss", images, {}, seed)}
        winners = {max(pair) for pair in answers}
        second = questions("swiss", images, answers, seed)
        assert sorted(len(winners & {*pair}) for pair in second) == [0, 0, 2, 2], seed


def test_swiss_opens_the_next_round_after_skips_and_ties():
    """A tie gives both a half, a skip none: the two that tied meet the two skipped ones' equals last."""
    tied, skipped = questions("swiss", list("abcd"), {}, "s")
    second = questions("swiss", list("abcd"), {tied: Said("tie"), skipped: Said("skip")}, "s")
    # Both tied pictures lead, but have met: each gets one of the skipped.
    assert len(second) == 2 and all(len({*pair} & {*tied}) == 1 for pair in second)


def test_swiss_reopens_an_undone_vote():
    answers = played("swiss", list("abcdefgh"))
    pair = next(iter(answers))
    del answers[pair]
    assert questions("swiss", list("abcdefgh"), answers, "s") == [pair]


@pytest.mark.parametrize("count", [3, 5, 7, 8, 11, 16])
def test_swiss_rounds_stay_the_same_while_they_are_answered(count):
    """In whatever order a round is answered, its other questions do not change, and nobody rests twice."""
    images = [f"{i:02d}" for i in range(count)]
    generator = random.Random(count)
    answers, rests = {}, []
    for _ in range((count - 1).bit_length()):
        asked = questions("swiss", images, answers, "s")
        assert len(asked) == count // 2
        assert len({image for pair in asked for image in pair}) == count // 2 * 2
        rests += {*images} - {image for pair in asked for image in pair}
        generator.shuffle(asked)
        while asked:
            pair = asked.pop()
            assert pair not in answers
            answers[pair] = generator.choice([Said("win", pair[0]), Said("win", pair[1]), Said("tie"), Said("skip")])
            now = questions("swiss", images, answers, "s")
            assert {*now} == {*asked} or not asked
    assert questions("swiss", images, answers, "s") == []
    assert len(rests) == len({*rests})


@pytest.mark.parametrize("seed", range(20))
def test_swiss_survives_any_history(seed):
    """Undone and changed votes at random: no pair is asked twice, and it ends."""
    generator = random.Random(seed)
    images = [f"{i:02d}" for i in range(generator.randint(2, 12))]
    answers = {}
    for _ in range(200):
        asked = questions("swiss", images, answers, "s")
        assert not {*asked} & {*answers}
        if answers and generator.random() < 0.3:
            del answers[generator.choice(list(answers))]
        elif asked:
            pair = generator.choice(asked)
            answers[pair] = Said("win", generator.choice(pair))
    answers = played("swiss", images, answers)
    assert len(answers) <= expected("all", len(images))


def test_swiss_ranks_the_best_first():
    """Sixteen pictures of known strength: the best one wins all of its four games."""
    images = [f"{i:02d}" for i in range(16)]
    answers = played("swiss", images)
    wins = [sum(said.winner == image for said in answers.values()) for image in images]
    assert wins[-1] == 4 and wins[0] == 0
    assert sum(wins) == 32


def test_the_seed_decides_and_nothing_else():
    images = [f"{i:02d}" for i in range(16)]
    assert questions("swiss", images, {}, "s") == questions("swiss", images, {}, "s")
    assert questions("swiss", images, {}, "s") != questions("swiss", images, {}, "t")
