"""What ends the rounds."""

from __future__ import annotations

import numpy as np
import pytest

from dspo_train.rounds.guard import Check, Limits, distance_ratio, spread_ratio
from dspo_train.rounds.labelling import labelled
from dspo_train.taste.head import Head


def head(*weights: tuple[float, ...]) -> Head:
    rows = np.array(weights)
    return Head(np.zeros(rows.shape[1]), np.ones(rows.shape[1]), rows, 1.0, 1.0)


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (Check(accuracy=0.55), "foretells 55% of the clicks"),
        (Check(fit_lost=0.031), "3.1% more of the images no longer show their prompt; at most 2% may"),
        (Check(spread=4.0), "4.0 times less sure"),
        (Check(distance=3.0), "3.0 times as far"),
        (Check(), ""),
        (Check(accuracy=0.6, fit_lost=0.02, spread=2.0, distance=1.5), ""),  # at a limit is within it
    ],
)
def test_a_passed_limit_is_said(check, words):
    said = check.broken(Limits(accuracy=0.6, fit_lost=0.02, spread=2.0, distance=1.5))
    assert words in said and bool(said) == bool(words)


def test_members_that_agree_do_not_spread_however_far_the_scores_go():
    near, far = np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([[0.0, 0.0], [9.0, 0.0]])
    agreed = head((1.0, 5.0), (1.0, -5.0))  # they differ in the second feature alone
    little, much = near + np.array([[0, 0], [0, 0.1]]), near + np.array([[0, 0], [0, 1]])
    assert spread_ratio(agreed, much, far) < 1e-6
    assert spread_ratio(agreed, little, much) == pytest.approx(10)


def test_distance_is_in_units_of_the_known_images_own():
    """Known images a unit apart; new ones two units from the nearest of them."""
    known = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [1.0, 1.0], [2.0, 1.0]])
    assert distance_ratio(known, known[:2]) == 0.0
    scale = known.std(0)
    assert distance_ratio(known * scale, (known + np.array([4.0, 0.0]))[:1] * scale) == pytest.approx(
        np.hypot(2 / known.std(0)[0], 0) / min(1 / known.std(0)[0], 1 / known.std(0)[1])
    )


def test_the_better_half_meets_the_worse_half_of_its_prompt():
    """Scores 0 to 3 of one prompt: 3 against 1 and 2 against 0; the other prompt's two are too alike."""
    vectors = np.array([[0.0], [1.0], [2.0], [3.0], [5.0], [5.1]])
    found = labelled(head((1.0,)), vectors, ["a"] * 4 + ["b"] * 2, least=0.6, most=10)
    assert [(label.winner, label.loser) for label in found] == [(3, 1), (2, 0)]
    assert found[0].doubt == pytest.approx(1 / (1 + np.exp(2.0)))
    assert len(labelled(head((1.0,)), vectors, ["a"] * 6, least=0.6, most=2)) == 2


def test_what_the_ensemble_is_not_agreed_on_is_left_out():
    vectors, prompts = np.array([[0.0, 0.0], [1.0, 3.0]]), ["a", "a"]
    assert labelled(head((1.0, 0.0), (1.0, 0.0)), vectors, prompts, least=0.6, most=9)
    assert not labelled(head((1.0, 1.0), (1.0, -1.0)), vectors, prompts, least=0.6, most=9)
