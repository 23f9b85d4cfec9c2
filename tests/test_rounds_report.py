"""The comparison of one training with rounds: its arithmetic, and that the documentation shows what was kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.rounds import carried, results
from benchmarks.rounds.__main__ import courses, one_shots
from benchmarks.rounds.report import compared, written
from benchmarks.rounds.results import Row
from benchmarks.rounds.summing import best, guarded
from dspo_train.rounds.guard import Check, Limits

DOCS = Path(__file__).parents[1] / "docs" / "rounds.md"
BASE = Row("base", 5, 0, 0, -0.1, 1.0, 0.3, Check())


def look(at: int, reward: float, fit: float, **signs: float) -> Row:
    return Row("rounds-taste5-100-s0", 5, 0, at, reward, fit, 0.3, Check(**signs))


def test_the_best_look_is_within_two_points_of_the_fit():
    looks = [look(1, 0.2, 1.0), look(2, 0.9, 0.98), look(3, 2.0, 0.97)]
    assert best(looks, BASE) is looks[1]
    assert best([look(1, 3.0, 0.5), look(2, -0.5, 1.0)], BASE) is BASE


def test_the_guard_keeps_the_round_before_the_first_that_passes_a_limit():
    looks = [look(1, 0.2, 1.0, spread=1.0), look(2, 0.9, 1.0, spread=2.3), look(3, 2.0, 0.9, spread=2.5)]
    assert guarded(looks, BASE, Limits()) is looks[1]
    assert guarded(looks[:2], BASE, Limits()) is looks[1]
    assert guarded([look(1, 0.5, 1.0, accuracy=0.5)], BASE, Limits()).at == 1


def test_a_row_is_read_as_it_was_written_and_takes_the_place_of_an_earlier_look(tmp_path):
    place = tmp_path / "results.csv"
    rows = [BASE, look(1, 0.25, 1.0, accuracy=0.91, fit_lost=0.0, spread=1.5, distance=1.0), look(2, 0.5, 0.9)]
    results.write(rows, place)
    assert results.read(place) == rows
    results.write([look(1, 0.75, 1.0)], place)
    assert results.read(place) == [BASE, look(1, 0.75, 1.0)]


def test_gains_are_beyond_the_untrained_model():
    shots, course = [run for run in one_shots() if (run.taste, run.seed) == (5, 0)], next(courses())
    singles = [Row(shots[0].name, 5, 0, at, reward, 1.0, 0.3, Check()) for at, reward in ((25, 0.1), (50, 0.4))]
    (found,) = compared([BASE, *singles, look(1, 0.9, 1.0, spread=3.0), look(2, 1.4, 1.0)], shots, [course])
    assert found.gains == pytest.approx((0.5, 1.5, 1.0))
    assert found.line() == "| 5 | 0 | -0.10 | +0.40 | +1.40 | 3.0 | +0.90 (round 1) | 100% |"


def test_the_documentation_shows_the_table_of_what_was_kept():
    table: list[Any] = written(results.read(), list(one_shots()), list(courses())).split("\n\n")[0].splitlines()
    text = DOCS.read_text(encoding="utf-8")
    assert len(table) > 2 and "\n".join(table) in text


def test_the_documentation_shows_what_each_sharpness_gains():
    table = carried.written(results.read(carried.CARRIED))
    assert table.count("\n") == 1 + len(carried.MODELS)
    assert table in DOCS.read_text(encoding="utf-8")


def test_what_a_sharpness_gains_worked_by_hand():
    """The best look that keeps the fit is beyond the base by 0.4 and 0.2 on two tastes; they end at 0.5 and 0.3."""
    model, rows = carried.MODELS[0], []
    for taste, best_reward in ((0, 0.3), (1, 0.1)):
        rows.append(Row("embedded base", taste, 0, 0, -0.1, 1.0, 0.3, Check()))
        for sharpness in carried.SHARPNESS:
            run = model.name(taste, sharpness)
            rows.append(Row(run, taste, 0, 25, best_reward, 0.99, 0.3, Check()))
            rows.append(Row(run, taste, 0, 50, best_reward + 0.2, 0.9, 0.3, Check()))
    line = carried.written(rows).splitlines()[2]
    assert line == "| embedded | 0, 1 | 100% |" + " +0.30, ends at +0.40 with 90% |" * 3
