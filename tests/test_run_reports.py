"""Reports read from the middle and the end of a long file."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from dspo_train.runs import reports as run_reports
from dspo_train.runs.reports import latest_reports, plain, reports_after, winning_by_getting_worse


def line(step: int, **values: float) -> str:
    return json.dumps({"step": step, "margin": 0.1 * step, "note": "x" * (step * 37 % 400), **values}) + "\n"


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "reports.jsonl"
    path.write_text("".join(map(line, range(1, 2001))), encoding="utf-8")
    return path


@pytest.mark.parametrize("step", [0, 1, 2, 57, 999, 1000, 1500, 1997, 1999])
def test_what_comes_after_a_step(step, file):
    found = [report["step"] for report in reports_after(file, step, 3)]
    assert found == [step + n for n in (1, 2, 3) if step + n <= 2000]


def test_after_the_last_there_is_nothing(file):
    assert reports_after(file, 2000, 5) == reports_after(file, 10**9, 5) == []


def test_a_late_question_reads_little_of_the_file(file, monkeypatch):
    read = []
    parsed = run_reports._parsed
    monkeypatch.setattr(run_reports, "_parsed", lambda text: read.append(len(text)) or parsed(text))
    assert len(reports_after(file, 1990, 100)) == 10
    assert sum(read) < 40_000 < file.stat().st_size


@pytest.mark.parametrize("count", [1, 20, 500, 2000, 5000])
def test_the_latest(count, file):
    found = [report["step"] for report in latest_reports(file, count)]
    assert found == list(range(max(1, 2001 - count), 2001))


def test_a_line_that_is_being_written_is_left_out(file):
    with file.open("a", encoding="utf-8") as stream:
        stream.write('{"step": 2001, "mar')
    assert latest_reports(file, 1)[0]["step"] == 2000
    assert [report["step"] for report in reports_after(file, 1999, 9)] == [2000]


def test_no_file_no_reports(tmp_path):
    assert reports_after(tmp_path / "none", 0, 5) == latest_reports(tmp_path / "none") == []


def test_numbers_that_json_has_no_word_for():
    assert plain({"a": math.nan, "b": -math.inf, "c": 1, "d": 0.5}) == {"a": None, "b": None, "c": 1, "d": 0.5}
    assert plain({"quarters": [{"margin": math.nan, "drift": 1.0}]}) == {"quarters": [{"margin": None, "drift": 1.0}]}


def reports(change: float, accuracy: float, count: int = 20) -> list[dict[str, float]]:
    return [{"winner_change": change, "accuracy": accuracy}] * count


@pytest.mark.parametrize(
    ("change", "accuracy", "expected"),
    [(1e-6, 0.95, True), (0.4, 0.94, False), (0.41, 0.5, True), (0.0, 1.0, False), (-1e-6, 1.0, False)],
)
def test_the_warning_needs_both_or_a_large_rise(change, accuracy, expected):
    assert winning_by_getting_worse(reports(change, accuracy)) is expected


def test_the_warning_needs_twenty_reports_and_forgets_older_ones():
    assert not winning_by_getting_worse(reports(1.0, 1.0, 19))
    assert winning_by_getting_worse(reports(-9.0, 0.0, 50) + reports(1.0, 1.0))
    assert not winning_by_getting_worse(reports(math.nan, 1.0))


def test_a_report_without_its_numbers_gives_no_warning():
    nulls: list[dict[str, Any]] = [{"winner_change": None, "accuracy": 1.0}]
    assert not winning_by_getting_worse(reports(1.0, 1.0, 19) + nulls)
    assert winning_by_getting_worse(reports(math.inf, 1.0))
    assert not winning_by_getting_worse(reports(math.inf, 1.0) + reports(-math.inf, 1.0, 1))
