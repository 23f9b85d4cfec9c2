"""Rounds on the embedded model: drawn, labelled, trained on, stopped, and gone on with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dspo_train import files
from dspo_train.config import from_names
from dspo_train.demo.run import MODEL
from dspo_train.evaluate.shapes import SIZE, draw_scenes, random_scene
from dspo_train.exceptions import RunError
from dspo_train.images.decode import load_rgb, to_images
from dspo_train.pairs import scan_folder
from dspo_train.rounds.course import Course, Onlooker, Rounds
from dspo_train.rounds.fresh import FreshQuestion
from dspo_train.rounds.guard import Limits
from dspo_train.rounds.painting import DiffusersPainter
from dspo_train.runs.diffusers_model import DiffusersSource
from dspo_train.runs.job import Job, Start
from dspo_train.training.trainer import StepReport

PAINT = DiffusersPainter(SIZE, steps=2, guidance=1.0, batch=8)
FREE = Limits(accuracy=0.0, fit_lost=2.0, spread=1e9, distance=1e9)
ROUNDS = Rounds(count=2, pairs=12, steps=2, least=0.5, limits=FREE)
CONFIG = from_names(
    {
        "steps": 2,
        "batch_size": 2,
        "precision": "fp32",
        "device": "cpu",
        "lora.rank": 2,
        "lora.alpha": 2.0,
        "loss.word_budget": 0.05,
        "data.resolution": SIZE,
        "data.bucket_step": SIZE,
    }
)


@pytest.fixture(scope="module")
def clicks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pairs of each of twelve captions; of two scenes the darker one was preferred."""
    folder, generator = tmp_path_factory.mktemp("clicks"), torch.Generator().manual_seed(0)
    for number in range(24):
        scenes = sorted((random_scene(generator) for _ in range(2)), key=lambda scene: scene.tone)
        for side, image in zip("wl", to_images(draw_scenes(scenes) * 2 - 1), strict=True):
            files.write_image(folder / f"{number:02d}_{side}.png", image)
        files.write_text(folder / f"{number:02d}.txt", f"a red heart {number % 12}\n")
    return folder


def job(clicks: Path, out: Path) -> Job:
    return Job(DiffusersSource(MODEL), clicks, out, CONFIG, cache=clicks.with_name("cache"))


@pytest.fixture(scope="module")
def whole(clicks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rounds without a stop. -> the run's folder"""
    out = tmp_path_factory.mktemp("whole") / "taste"
    ended = Course(job(clicks, out), ROUNDS, PAINT).run()
    assert (ended.number, ended.reason) == (2, "")
    assert ended.folder.result == out / "rounds" / "2" / "taste-r2" / "taste-r2.safetensors"
    return out


@pytest.mark.slow
def test_a_round_trains_on_what_was_drawn_and_labelled_and_on_the_clicks(whole: Path, clicks: Path):
    scan = scan_folder(whole / "rounds" / "2" / "pairs")
    own = [pair for pair in scan.pairs if pair.winner.name.startswith("click-")]
    drawn = [pair for pair in scan.pairs if pair not in own]
    assert len(own) == len(scan_folder(clicks).pairs) and 8 <= len(drawn) <= 12
    assert all(pair.doubt == 0 for pair in own) and all(0 < pair.doubt <= 0.5 for pair in drawn)
    told = json.loads((whole / "rounds" / "2" / "drawn" / "drawn.json").read_text())
    assert len(told["seeds"]) == len(set(told["seeds"])) == 24 and len(set(told["prompts"])) == 12
    run = json.loads((whole / "rounds" / "2" / "taste-r2" / "run.json").read_text())
    assert run["refine"] and run["config"]["loss"]["word_budget"] == 0.05
    check = json.loads((whole / "rounds" / "3" / "check.json").read_text())  # of what the last round drew
    assert check["spread"] > 0 and check["distance"] > 0 and -1 <= check["fit_lost"] <= 1


@pytest.mark.slow
@pytest.mark.parametrize("where", ["drawn", "step"])
def test_stopped_anywhere_it_ends_with_the_same_bits(whole: Path, clicks: Path, tmp_path: Path, where: str):
    def stop(*seen: object) -> None:
        if where == "drawn" or (isinstance(seen[1], StepReport) and seen[0] == 2):
            raise KeyboardInterrupt

    out = tmp_path / "taste"
    with pytest.raises(KeyboardInterrupt):
        Course(job(clicks, out), ROUNDS, PAINT, Onlooker(**{where: stop})).run()
    ended = Course(job(clicks, out), ROUNDS, PAINT).run()
    wanted, found = load_file(whole / "rounds/2/taste-r2/taste-r2.safetensors"), load_file(ended.folder.result)
    assert found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.slow
def test_what_passes_a_limit_is_not_kept_and_a_finished_course_is_not_run_again(clicks: Path, tmp_path: Path):
    out = tmp_path / "taste"
    strict = Rounds(count=3, pairs=12, steps=2, least=0.5, limits=Limits(0.0, 2.0, 1e9, distance=0.0))
    notes: list[str] = []
    ended = Course(job(clicks, out), strict, PAINT, Onlooker(note=notes.append)).run()
    assert ended.number == 1 and ended.folder.result == out / "taste.safetensors"
    assert notes == [f"round 1 is kept: {ended.reason}"] and "times as far from yours" in ended.reason
    silent = Onlooker(drawn=lambda *seen: pytest.fail("drawn again"))
    again = Course(job(clicks, out), strict, PAINT, silent).run()
    assert (again.number, again.reason, again.folder.folder) == (1, ended.reason, ended.folder.folder)


@pytest.mark.slow
def test_rounds_begun_in_another_way_are_refused(whole: Path, clicks: Path):
    other = Rounds(count=3, pairs=10, steps=2, least=0.5, limits=FREE)
    with pytest.raises(RunError, match="`pairs` was 12 and is 10"):
        Course(job(clicks, whole), other, PAINT).run()


@pytest.mark.slow
def test_fresh_clicks_refit_the_taste_and_are_trained_on_without_doubt(clicks: Path, tmp_path: Path):
    asked: list[int] = []

    def darker(number: int, questions: Sequence[FreshQuestion], images: Sequence[Path]) -> list[float | None]:
        asked.append(number)
        tones = [[mean_tone(images[row]) for row in (each.first, each.second)] for each in questions]
        return [float(first < second) for first, second in tones[:-1]] + [None]  # the last one is skipped

    out, rounds = tmp_path / "taste", Rounds(count=2, pairs=12, steps=2, least=0.5, ask=3, limits=FREE)
    notes: list[str] = []
    Course(job(clicks, out), rounds, PAINT, Onlooker(note=notes.append), darker).run()
    assert asked == [2]  # not for what is drawn only to be checked
    answers = json.loads((out / "rounds" / "2" / "answers.json").read_text())["answers"]
    assert len(answers) == 2 and len({answer["prompt"] for answer in answers}) == 2
    right = sum((answer["foretold"] > 0.5) == (answer["target"] > 0.5) for answer in answers)
    assert notes == [f"the taste model had foretold {right / 2:.0%} of 2 fresh clicks"]
    sure = [pair for pair in scan_folder(out / "rounds" / "2" / "pairs").pairs if not pair.doubt]
    assert len(sure) == len(scan_folder(clicks).pairs) + 2  # in place of labels on the same two images

    def never(number: int, questions: Sequence[FreshQuestion], images: Sequence[Path]) -> list[float | None]:
        pytest.fail("asked again")

    (out / "rounds" / "end.json").unlink()
    assert Course(job(clicks, out), rounds, PAINT, asker=never).run().number == 2


def mean_tone(path: Path) -> float:
    return float(np.asarray(load_rgb(path), dtype=np.float64).mean())


@pytest.mark.slow
def test_only_the_first_round_goes_on_from_an_earlier_run(whole: Path, clicks: Path, tmp_path: Path):
    """Four steps from the state after two: two are left for the first round, and the second has its own two."""
    longer = replace(job(clicks, tmp_path / "longer"), config=replace(CONFIG, steps=4), start=Start(whole, 2))
    trained: list[tuple[int, int]] = []
    Course(longer, ROUNDS, PAINT, Onlooker(step=lambda number, report: trained.append((number, report.step)))).run()
    assert trained == [(1, 3), (1, 4), (2, 1), (2, 2)]
