from __future__ import annotations

import numpy as np
import pytest

from dspo_train.evaluate import win_rate
from dspo_train.evaluate.winrate import votes_to_settle, wilson


def test_rate_counts_ties_as_half():
    """Two won, one tied, one lost: 2.5 of 4."""
    found = win_rate([("a", 1), ("b", 1), ("c", 0.5), ("d", 0)])
    assert (found.rate, found.comparisons, found.prompts) == (0.625, 4, 4)


def test_wilson_worked_by_hand():
    """10 of 10: z^2 = 3.8415, low = 10 / (10 + 3.8415) = 0.7225, high = 1."""
    low, high = wilson(1.0, 10)
    assert low == pytest.approx(0.7225, abs=1e-4)
    assert high == pytest.approx(1.0)


def test_all_won_is_not_certain():
    """With no variation between prompts the prompts alone are counted: 8 of 8, low = 8 / (8 + 3.8415)."""
    found = win_rate([(str(prompt), 1) for prompt in range(8) for _ in range(50)])
    assert found.low == pytest.approx(8 / (8 + 3.8415), abs=1e-4)
    assert found.high == pytest.approx(1.0)


def test_pictures_that_go_together_do_not_shrink_the_interval():
    """Ten prompts each wholly won or lost: five pictures of each say no more than one."""
    outcomes = [(str(prompt), float(prompt < 6)) for prompt in range(10)]
    once, often = win_rate(outcomes), win_rate(outcomes * 5)
    assert often.rate == once.rate == 0.6
    assert (often.low, often.high) == pytest.approx((once.low, once.high), abs=1e-9)


def test_independent_pictures_count_each():
    """Every prompt split evenly: nothing speaks for clusters, and all 40 comparisons count."""
    found = win_rate([(str(prompt), float(i % 2)) for prompt in range(10) for i in range(4)])
    assert (found.low, found.high) == pytest.approx(wilson(0.5, 10), abs=1e-9)


def test_the_interval_covers_the_truth_about_95_times_in_100():
    """600 simulated experiments: 60 prompts whose own win rates vary (Beta(3, 1.5), mean 2/3), four pictures each."""
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(600):
        chances = generator.beta(3, 1.5, 60)
        wins = generator.random((60, 4)) < chances[:, None]
        found = win_rate((str(i), float(w)) for i in range(60) for w in wins[i])
        covered += found.low <= 2 / 3 <= found.high
    assert 0.92 <= covered / 600 <= 0.98


@pytest.mark.parametrize(("outcomes", "message"), [([], "no comparisons"), ([("a", 2.0)], "0, 0.5 or 1, got 2.0")])
def test_bad_outcomes(outcomes, message):
    with pytest.raises(ValueError, match=message):
        win_rate(outcomes)


def test_it_reads_as_a_sentence():
    assert str(win_rate([("a", 1), ("b", 0)])).startswith("50.0% (95% interval ")


def test_votes_to_settle_worked_by_hand():
    """3 of 4, each prompt once: se^2 = 4/3 * (3 * 0.25^2 + 0.75^2) / 4^2 = 1/16, so the four count as
    n = 0.75 * 0.25 * 16 = 3. Needed are 3.8415 / (4 * 0.25^2) = 15.366, at 4/3 votes each 20.49: 21, or 17 more."""
    assert votes_to_settle([("a", 1), ("b", 1), ("c", 1), ("d", 0)]) == 17


def test_votes_to_settle_counts_prompts_not_pictures():
    """Five pictures that go together in each prompt: still n = 3, so 20/3 votes each: 102.4, or 83 more than 20."""
    assert votes_to_settle([("a", 1), ("b", 1), ("c", 1), ("d", 0)] * 5) == 83


def test_votes_to_settle_of_an_even_and_of_a_settled_result():
    assert votes_to_settle([("a", 1), ("b", 0), ("c", 0.5)]) is None
    assert votes_to_settle([(str(prompt), 1) for prompt in range(4)]) == 0  # 4 > 3.84
    assert votes_to_settle([(str(prompt), 1) for prompt in range(3)]) == 1
    with pytest.raises(ValueError, match="no comparisons"):
        votes_to_settle([])


@pytest.mark.parametrize("seed", range(30))
def test_votes_to_settle_agrees_with_the_interval(seed):
    """That many more votes at the same rate and spread: the interval has left one half; one fewer: it has not."""
    generator = np.random.default_rng(seed)
    outcomes = [
        (str(prompt), float(generator.choice([0, 0.5, 1], p=[0.2, 0.2, 0.6])))
        for prompt in range(generator.integers(2, 30))
        for _ in range(generator.integers(1, 5))
    ]
    found, more = win_rate(outcomes), votes_to_settle(outcomes)
    if more is None:
        assert found.rate == 0.5
        return
    assert (more == 0) == (not found.low <= 0.5 <= found.high)
    effective = effective_of(found)
    for votes, settled in ((found.comparisons + more, True), (found.comparisons + more - 1, False)):
        low, high = wilson(found.rate, votes * effective / found.comparisons)
        assert (not low <= 0.5 <= high) == settled or (more == 0 and not settled)


def effective_of(found) -> float:
    """The effective comparisons behind an interval: its width falls with their number, so halving finds it."""
    few, many = 0.01, 1e6
    for _ in range(200):
        middle = (few + many) / 2
        low, high = wilson(found.rate, middle)
        few, many = (middle, many) if high - low > found.high - found.low else (few, middle)
    return few
