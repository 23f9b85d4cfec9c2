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
    """With no variation between prompts the prompts alone are counted: 8 of 8, of which (1.96 / 2.3646)^2 are left,
    2.3646 being Student's t with 7 degrees of freedom: n = 5.496, low = n / (n + 3.8415) = 0.5886."""
    found = win_rate([(str(prompt), 1) for prompt in range(8) for _ in range(50)])
    assert found.low == pytest.approx(0.5886, abs=1e-4)
    assert found.high == pytest.approx(1.0)


def test_pictures_that_go_together_do_not_shrink_the_interval():
    """Ten prompts each wholly won or lost: five pictures of each say no more than one."""
    outcomes = [(str(prompt), float(prompt < 6)) for prompt in range(10)]
    once, often = win_rate(outcomes), win_rate(outcomes * 5)
    assert often.rate == once.rate == 0.6
    assert (often.low, often.high) == pytest.approx((once.low, once.high), abs=1e-9)


def test_independent_pictures_count_each():
    """Every prompt split evenly: nothing speaks for clusters, and all 40 count, at t = 2.2622 (9 degrees)."""
    found = win_rate([(str(prompt), float(i % 2)) for prompt in range(10) for i in range(4)])
    assert (found.low, found.high) == pytest.approx(wilson(0.5, 40 * (1.959964 / 2.262157) ** 2), abs=1e-6)


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


@pytest.mark.parametrize("prompts", [2, 3, 5, 8])
def test_few_prompts_do_not_make_a_verdict_out_of_chance(prompts):
    """1000 experiments without a difference: prompts of win rates Beta(2, 2), 20 votes each. A verdict is an error."""
    generator = np.random.default_rng(prompts)
    wrong = 0
    for _ in range(1000):
        wins = generator.random((prompts, 20)) < generator.beta(2, 2, prompts)[:, None]
        found = win_rate((str(i), float(w)) for i in range(prompts) for w in wins[i])
        wrong += not found.low <= 0.5 <= found.high
    assert wrong <= 70


def test_two_prompts_that_agree_settle_nothing():
    """31 and 32 of 50: by the votes alone it would be 63%, 53% to 72%."""
    found = win_rate([(p, float(i < wins)) for p, wins in (("a", 31), ("b", 32)) for i in range(50)])
    assert found.low < 0.5 < found.high


@pytest.mark.parametrize(("outcomes", "message"), [([], "no comparisons"), ([("a", 2.0)], "0, 0.5 or 1, got 2.0")])
def test_bad_outcomes(outcomes, message):
    with pytest.raises(ValueError, match=message):
        win_rate(outcomes)


def test_it_reads_as_a_sentence():
    assert str(win_rate([("a", 1), ("b", 0)])).startswith("50.0% (95% interval ")


def test_votes_to_settle_worked_by_hand():
    """3 of 4, each prompt once: se^2 = 4/3 * (3 * 0.25^2 + 0.75^2) / 4^2 = 1/16, so the four count as
    n = 0.75 * 0.25 * 16 = 3 before the few prompts are allowed for. Wilson's interval leaves 1/2 at
    n > 3.8415 / (4 * 0.25^2) = 15.366. With v votes on v prompts n is 0.75 v (1.96 / t)^2, t of v - 1 degrees:
    22 votes give 0.75 * 22 * (1.96 / 2.0796)^2 = 14.66, 23 give 15.41. So 19 more than the 4."""
    assert votes_to_settle([("a", 1), ("b", 1), ("c", 1), ("d", 0)]) == 19


def test_votes_to_settle_counts_prompts_not_pictures():
    """Five pictures that go together in each prompt: n = 0.15 v and v / 5 prompts; 115 votes on 23 prompts give the
    15.41 of above, and 114 too little: 95 more than 20, or one or two fewer, as prompts are counted in part."""
    more = votes_to_settle([("a", 1), ("b", 1), ("c", 1), ("d", 0)] * 5)
    assert more is not None
    assert 93 <= more <= 95


def test_votes_to_settle_of_an_even_and_of_a_settled_result():
    assert votes_to_settle([("a", 1), ("b", 0), ("c", 0.5)]) is None
    assert votes_to_settle([(str(prompt), 1) for prompt in range(7)]) == 0  # 7 (1.96 / 2.4469)^2 = 4.49 > 3.84
    assert votes_to_settle([(str(prompt), 1) for prompt in range(6)]) == 1  # 6 (1.96 / 2.5706)^2 = 3.49
    with pytest.raises(ValueError, match="no comparisons"):
        votes_to_settle([])


def test_votes_to_settle_agrees_with_the_interval():
    """The same votes again on new prompts, often enough: the interval leaves one half where it was said to."""
    settled = 0
    for seed in range(30):
        generator = np.random.default_rng(seed)
        outcomes = [
            (f"{prompt}", float(generator.choice([0, 0.5, 1], p=[0.2, 0.2, 0.6])))
            for prompt in range(generator.integers(3, 30))
            for _ in range(generator.integers(1, 5))
        ]
        found, more = win_rate(outcomes), votes_to_settle(outcomes)
        if more is None:
            assert found.rate == 0.5, seed
            continue
        assert (more == 0) == (not found.low <= 0.5 <= found.high), seed
        settled += more == 0
        rounds = -(-more // len(outcomes)) + 1  # whole repetitions; the spread's K / (K - 1) changes a little with K
        again = win_rate([(f"{n}.{prompt}", won) for n in range(rounds + 1) for prompt, won in outcomes])
        assert not again.low <= 0.5 <= again.high, seed
    assert 5 < settled < 25  # both kinds are among them
