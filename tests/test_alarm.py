"""The alarm: winning by getting worse, on held-out pairs and in training."""

from __future__ import annotations

import math
from typing import Any

import pytest

from dspo_train.runs.alarm import HELD_OUT, TRAINING, WITHOUT_WINNING, alarm, held_out_getting_worse, reports_needed
from dspo_train.runs.reports import worse_without_winning

WORSE, WELL = 1e-6, -1e-6


def training(change: float = WELL, accuracy: float = 0.7, count: int = 25) -> list[dict[str, Any]]:
    return [{"step": step, "winner_change": change, "accuracy": accuracy} for step in range(1, count + 1)]


def measured(change: float, accuracy: float, pair_accuracy: float = 0.5) -> dict[str, Any]:
    """A step with a measurement, whose own pairs say nothing alarming."""
    held = {
        "held_out_winner_change": change,
        "held_out_accuracy": accuracy,
        "held_out_pair_accuracy": pair_accuracy,
    }
    return {**training(count=1)[0], **held}


@pytest.mark.parametrize(
    ("change", "accuracy", "pair_accuracy", "expected"),
    [
        (WORSE, 0.95, 0.5, True),
        (WORSE, 0.7, 0.95, True),
        (WORSE, 0.94, 0.94, False),
        (0.4, 0.94, 0.94, False),
        (0.41, 0.5, 0.5, True),  # so far above the start at any accuracy
        (0.0, 1.0, 1.0, False),
        (WELL, 1.0, 1.0, False),
        (math.nan, 1.0, 1.0, False),
    ],
)
def test_held_out_pairs_raise_it_with_both_or_a_large_rise(change, accuracy, pair_accuracy, expected):
    reports = [*training(), measured(change, accuracy, pair_accuracy)] * 2
    assert held_out_getting_worse(reports) is expected
    assert alarm(reports) == (HELD_OUT if expected else None)


def test_it_takes_two_measurements_in_a_row_and_forgets_older_ones():
    bad, good = measured(WORSE, 1.0), measured(WELL, 1.0)
    assert alarm([*training(), bad]) is None
    assert alarm([bad, good, bad]) is None
    assert alarm([bad, bad, good]) is None
    assert alarm([good, good, bad, *training(), bad]) == HELD_OUT


def test_a_report_that_json_emptied_is_no_measurement():
    assert alarm([measured(WORSE, 1.0), {**measured(WORSE, 1.0), "held_out_winner_change": None}]) is None


def test_training_raises_it_as_before_and_held_out_pairs_speak_first():
    assert alarm(training(WORSE, 1.0)) == TRAINING
    assert alarm(training(WORSE, 1.0, count=19)) is None
    assert alarm(training(WELL, 1.0)) is None
    assert alarm([*training(WORSE, 1.0), measured(WORSE, 1.0), measured(WORSE, 1.0)]) == HELD_OUT


def harmed(change: float, drift: float, accuracy: float, against: int = 0) -> list[dict[str, Any]]:
    """Twenty steps, in `against` of which the winner's error fell; the mean change is kept."""
    changes = [-1e-9] * against + [change * 20 / (20 - against)] * (20 - against)
    return [{"winner_change": each, "drift": drift, "accuracy": accuracy} for each in changes]


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        (harmed(0.2, 0.2, 0.5), True),
        (harmed(2e-6, 2e-6, 0.5), True),  # whatever the model's scale
        (harmed(0.1, 0.2, 0.7), True),
        (harmed(0.2, 0.2, 0.5, against=2), True),
        (harmed(0.2, 0.2, 0.5, against=3), False),
        (harmed(0.09, 0.2, 0.5), False),  # more of the change is learned than harmful
        (harmed(0.2, 0.2, 0.71), False),  # it does learn to tell them apart
        (harmed(0.35, 0.49, 0.82), False),  # a strong `dspo` run whose images stay intact
        (harmed(-0.2, 0.2, 0.5), False),
        (harmed(0.0, 0.0, 0.5), False),  # nothing was trained yet
        (harmed(0.2, 0.2, 0.5)[:19], False),
        (harmed(0.2, math.nan, 0.5), False),
    ],
)
def test_worse_without_winning(reports, expected):
    assert worse_without_winning(reports) is expected
    assert alarm(reports) == (WITHOUT_WINNING if expected else None)


def test_a_rise_that_is_far_too_large_has_its_own_words():
    assert alarm(harmed(0.5, 0.5, 0.8)) == TRAINING
    assert alarm(harmed(0.5, 0.5, 0.5)) == WITHOUT_WINNING


def test_nothing_is_said_of_a_run_without_reports():
    assert alarm([]) is None


@pytest.mark.parametrize(("every", "count"), [(1, 20), (10, 20), (25, 50)])
def test_enough_reports_hold_two_measurements_wherever_the_run_stands(every, count):
    assert reports_needed(every) == count
    run = [measured(WORSE, 1.0) if step % every == 0 else training(count=1)[0] for step in range(1, 4 * count)]
    for end in range(2 * every, len(run)):
        assert alarm(run[max(0, end - count) : end]) == HELD_OUT


def test_each_is_one_sentence_that_says_what_to_do():
    for text in (HELD_OUT, TRAINING):
        assert text.count(". ") == 0 and text.endswith(".")
        assert all(word in text for word in ("`optim.lr`", "stop earlier", "`loss.sft_mix`"))
