"""The taste benchmark's arithmetic: which checkpoint counts, which setting goes on, and how pairs are put together."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from PIL import Image

from benchmarks.taste import plan, seed_by_seed, summary, worlds, writing
from benchmarks.taste import run as run_module
from benchmarks.taste.__main__ import write
from benchmarks.taste.measure import prompts
from dspo_train.evaluate.shapes import Reading, captions

SETTINGS = plan.SETTINGS.items()
COUNT = len(prompts())  # 96 test pictures
BASE: dict[str, Any] = {"rewards": {"large_and_dark": [0.5] * COUNT}, "fits": [True] * COUNT, "spread": 0.2}


def look(step: int, reward: float, misfits: int) -> dict[str, Any]:
    fits = [number >= misfits for number in range(COUNT)]
    return {"step": step, "drift": 0.1, "rewards": {"large_and_dark": [reward] * COUNT}, "fits": fits, "spread": 0.1}


def result(*looks: dict[str, Any], seed: int = 0, objective: str = "dspo", **settings: float) -> dict[str, Any]:
    run = plan.Run("large_and_dark", objective, settings, seed=seed)
    return {"run": run.__dict__, "label": run.label, "looks": list(looks)}


def test_a_checkpoint_counts_while_all_but_two_points_of_the_fit_are_kept():
    """One misfit of 96 is 1.04 points and counts; two are 2.08 points and do not."""
    seen = result(look(50, 1.0, 0), look(75, 2.0, 1), look(100, 3.0, 2))
    assert summary.best_look(seen, BASE)["step"] == 75


def test_where_no_checkpoint_counts_the_base_stands_in():
    row = summary.row([result(look(50, 3.0, 40))], BASE)
    assert (row.reward, row.step, row.fit, row.win.rate, row.gained) == (0.5, 0, 1.0, 0.5, 0)
    assert (row.last_reward, row.last_fit) == (3.0, 56 / 96)
    (line,) = (line for line in writing.markdown([row]).splitlines() if line.startswith("| dspo"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1:3] == ["1", "no checkpoint that keeps the fit is above the base"]
    assert cells[3:] == ["-"] * 5 + ["+3.00, fit 58%"]  # the base's own figures do not pass for the objective's


def test_a_seed_without_a_gain_is_told():
    """Seeds with +1.5 and +2.5, and one that spoils the fit, for which the base's +0.5 counts: mean +1.5."""
    looks = [look(50, 1.5, 0), look(50, 2.5, 0), look(50, 3.0, 40)]
    row = summary.row([result(each, seed=seed) for seed, each in enumerate(looks)], BASE)
    assert (row.seeds, row.gained, row.reward) == (3, 2, 1.5)
    assert "the base in 1 |" in writing.markdown([row])
    assert row.win.rate == pytest.approx((1 + 1 + 0.5) / 3)


@pytest.mark.parametrize(("options", "told"), [({}, True), ({"ema": 0.98}, False), ({"moving_reference": 0.99}, False)])
def test_drift_is_told_where_it_is_the_distance_from_the_base(options: dict[str, float], told: bool):
    run = plan.Run("large_and_dark", "dspo", options=options)
    row = summary.row([{"run": run.__dict__, "label": run.label, "looks": [look(50, 1.0, 0)]}], BASE)
    assert math.isnan(row.drift) is not told


def test_a_result_whose_settings_have_changed_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A file is named after the settings its run had; where the same label now means others, it is no part of a row."""
    (tmp_path / "results").mkdir()
    for seed, (name, reward) in enumerate([(plan.Run("large_and_dark", "dspo").key, 2.0), ("dspo-0123456789ab", 9.0)]):
        text = json.dumps(result(look(50, reward, 0), seed=seed))
        (tmp_path / "results" / f"{name}.json").write_text(text, encoding="utf-8")
    write(tmp_path, BASE)
    assert "1 runs left out" in capsys.readouterr().out
    (row,) = csv.DictReader((tmp_path / "table.csv").read_text(encoding="utf-8").splitlines())
    assert (row["seeds"], row["reward"]) == ("1", "2")


def test_every_look_is_written_with_what_held_out_pairs_showed():
    """Pictures after steps 50 and 100, held-out pairs after 25 and 50: three lines, empty where nothing was taken."""
    measured = [{"step": step, "held_out_accuracy": 0.75, "held_out_winner_change": -0.5} for step in (25, 50)]
    run = {**result(look(50, 1.0, 0), look(100, 2.0, 24)), "held_out": measured}
    lines = list(csv.DictReader(writing.looks_csv([run]).splitlines()))
    columns = ("step", "reward", "fit", "held_out_accuracy", "held_out_winner_change")
    assert [tuple(line[name] for name in columns) for line in lines] == [
        ("25", "", "", "0.75", "-0.5"),
        ("50", "1", "1", "0.75", "-0.5"),
        ("100", "2", "0.75", "", ""),
    ]


def test_two_processes_share_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """While another process has the first run in hand, the second is done; the first is read when that one is ready."""
    runs = [plan.Run("large_and_dark", "dspo", seed=seed) for seed in (0, 1)]
    trained: list[str] = []

    def train(out: Path, run: plan.Run) -> dict[str, Any]:
        trained.append(run.key)
        return result(look(50, 1.0, 0), seed=run.seed)

    monkeypatch.setattr(run_module, "_train", train)
    for folder in ("locks", "results"):
        (tmp_path / folder).mkdir()
    other = FileLock(tmp_path / "locks" / runs[0].key)
    other.acquire()

    def when_told(run: plan.Run, _: dict[str, Any]) -> None:
        if run is runs[1]:
            (tmp_path / "results" / f"{runs[0].key}.json").write_text(json.dumps(result(look(50, 7.0, 0))))
            other.release()

    found = run_module.results_of(tmp_path, runs, when_told)
    assert trained == [runs[1].key]
    assert [each["looks"][0]["rewards"]["large_and_dark"][0] for each in found] == [7.0, 1.0]


def test_a_row_is_the_mean_of_its_seeds():
    """Rewards 1, 2 and 3: mean 2, Student's interval 2 -+ 4.303 / sqrt(3)."""
    row = summary.row([result(look(50, float(seed + 1), 0), seed=seed) for seed in range(3)], BASE)
    assert (row.seeds, row.reward, row.win.rate) == (3, 2.0, 1.0)
    assert row.spread == pytest.approx(0.5)  # 0.1 of the base's 0.2
    assert (row.low, row.high) == pytest.approx((2 - 4.303 / 3**0.5, 2 + 4.303 / 3**0.5), abs=1e-3)


def test_a_lead_is_the_mean_difference_of_the_same_seeds():
    """Ahead by 1, 2 and 3, and once where the other has no run: mean 2, Student's interval 2 -+ 4.303 / sqrt(3)."""
    mine = [result(look(50, 10.0 + 2 * seed, 0), seed=seed) for seed in range(4)]
    theirs = [result(look(50, 9.0 + seed, 0), objective="sft", seed=seed) for seed in range(3)]
    few = [result(look(50, 1.0, 0), objective="ipo", seed=seed) for seed in range(2)]
    faster = [result(look(50, 1.0, 0), objective="mapo", seed=seed, lr=2.0) for seed in range(3)]
    (lead,) = seed_by_seed.leads([*mine, *theirs, *few, *faster], BASE, "dspo")
    assert (lead.over, lead.seeds, lead.ahead, lead.mean) == ("sft at its default", 3, 3, 2.0)
    assert (lead.low, lead.high) == pytest.approx((2 - 4.303 / 3**0.5, 2 + 4.303 / 3**0.5), abs=1e-3)
    assert "| large and dark, 400 pairs | sft at its default | 3 | 3 | **+2.00**" in seed_by_seed.markdown("x", [lead])


def test_settings_are_chosen_by_the_first_seed_alone_at_the_learning_rate_of_all():
    """Another seed's luck does not choose: strength 3 is better with seed 0 alone, strength 10 with both."""
    seen = [
        result(look(50, 2.0, 0), strength=3.0),
        result(look(50, 1.0, 0), strength=10.0),
        result(look(50, 9.0, 0), strength=10.0, seed=1),
        result(look(50, 9.0, 0), lr=2.0),
    ]
    assert summary.best_settings(seen, BASE) == {("large_and_dark", "dspo"): "dspo strength 3"}


def test_of_settings_that_never_gain_the_first_listed_goes_on():
    """One stays below the base's 0.5, which stands in for it, one is at 0.504: both show as +0.50."""
    seen = [result(look(50, reward, 0), objective="dspo_paper", beta=beta) for beta, reward in ((10, 0.504), (1, 0.4))]
    for order in (seen, seen[::-1]):
        assert summary.best_settings(order, BASE) == {("large_and_dark", "dspo_paper"): "dspo_paper beta 1"}


def test_the_default_is_compared_whether_it_is_the_best_of_its_settings_or_not():
    """Of the others the best setting goes on; the seeds that nothing was chosen by are not among those of any dial."""
    best = {(taste, name): plan.Run(taste, name, ways[0]).label for taste in plan.TASTES for name, ways in SETTINGS}
    best |= {(taste, "dspo"): "dspo sharpness 2" for taste in plan.TASTES}
    runs = plan.second_runs(best)
    seeds = {(r.taste, r.label): set[int]() for r in runs}
    for run in runs:
        seeds[(run.taste, run.label)].add(run.seed)
    for taste in plan.TASTES:
        assert seeds[(taste, "dspo at its default")] == set(range(8))
        assert seeds[(taste, "diffusion_dpo sharpness 3")] == set(range(8))
        assert seeds[(taste, "diffusion_dpo sharpness 1")] == {0, 1, 2}
        assert seeds[(taste, "dspo sharpness 2")] == {0, 1, 2}
        assert seeds[(taste, "ipo tau 2")] == {0, 1, 2}
        assert (taste, "ipo tau 20") not in seeds


def test_the_lead_is_told_with_all_seeds_and_with_the_fresh_ones_alone(tmp_path: Path):
    """Ahead by 1 with seeds 0 to 4 and by 2 with 5 to 7: (5 + 6) / 8 = 1.375 of all, 2 of the fresh ones."""
    (tmp_path / "results").mkdir()
    for seed in range(8):
        mine = result(look(50, 4.0 if seed in plan.FRESH_SEEDS else 3.0, 0), seed=seed)
        theirs = result(look(50, 2.0, 0), objective="sft", seed=seed)
        for each in (mine, theirs):
            name = plan.Run(**each["run"]).key
            (tmp_path / "results" / f"{name}.json").write_text(json.dumps(each), encoding="utf-8")
    write(tmp_path, BASE)
    told = (tmp_path / "table.md").read_text(encoding="utf-8")
    line = "| large and dark, 400 pairs | sft at its default |"
    every, fresh = (part.split(line)[1].splitlines()[0] for part in told.split("### `dspo` at its default, ")[1:])
    assert every.startswith(" 8 | 8 | **+1.38**")
    assert fresh.startswith(" 3 | 3 | **+2.00** (+2.00 to +2.00)")


def test_a_run_is_named_by_everything_that_it_depends_on(monkeypatch: pytest.MonkeyPatch):
    run = plan.Run("large_and_dark", "dspo")
    assert run.key == plan.Run("large_and_dark", "dspo", {"strength": 100.0}).key  # the default, said aloud
    changed = [
        {"settings": {"strength": 99.0}},
        {"seed": 1},
        {"pairs": 100},
        {"flipped": 0.2},
        {"options": {"ema": 0.9}},
    ]
    assert len({run.key, *(replace(run, **change).key for change in changed)}) == 6
    before = run.key
    monkeypatch.setattr(plan, "LEARNING_RATE", 5e-4)
    assert run.key != before


@pytest.mark.parametrize("count", [12, 13])
def test_winners_of_further_left_are_from_the_middle_half(count: int):
    """Of 12 pictures by place, the 6 further right lose, each to one three ranks on: winners have ranks 3 to 8."""
    readings = [Reading("heart", "red", 1.0, 0.3, 0.5, x=1 - 0.05 * rank) for rank in range(count)]
    picture = Image.new("RGB", (8, 8))
    found = [worlds.Candidate(captions()[0], picture, reading) for reading in reversed(readings)]
    pairs = [tuple(readings.index(side.reading) for side in pair) for pair in worlds.labelled("further_left", found)]
    assert pairs == [(3, 0), (4, 1), (5, 2), (6, 3), (7, 4), (8, 5)]


def test_the_better_of_two_wins_large_and_dark():
    small, large = (Reading("heart", "red", 1.0, size, 0.5) for size in (0.2, 0.6))
    picture = Image.new("RGB", (8, 8))
    found = [worlds.Candidate(captions()[0], picture, reading) for reading in (small, large)]
    assert [(winner.reading, loser.reading) for winner, loser in worlds.labelled("large_and_dark", found)] == [
        (large, small)
    ]
