from __future__ import annotations

import numpy as np
import pytest

from dspo_train.evaluate import win_rate
from dspo_train.evaluate.winrate import wilson


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
