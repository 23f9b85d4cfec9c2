"""Rounds on the same clicks, each LoRA looked at, with the guard off: what it would have done is told after."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.taste.measure import SAMPLING
from dspo_train import files
from dspo_train.demo.run import MODEL
from dspo_train.images.decode import load_rgb
from dspo_train.lora.attach import applied
from dspo_train.lora.writing import load_lora
from dspo_train.models.base import load_base
from dspo_train.models.sampling import sample
from dspo_train.rounds.course import Course, Onlooker, Rounds
from dspo_train.rounds.fresh import FreshQuestion
from dspo_train.rounds.guard import Check, Limits
from dspo_train.runs.diffusers_model import DiffusersModel, DiffusersSource
from dspo_train.runs.folder import RunFolder
from dspo_train.runs.job import Job
from dspo_train.scorers.toys import look
from dspo_train.training.model import Model

from .looks import fit, look_at, reward
from .one_shot import OneShot, config_of
from .tastes import Taste, pair_folder

NO_LIMITS = Limits(0.0, 2.0, 1e9, 1e9)


@dataclass(frozen=True)
class InRounds:
    """A course on `first`'s clicks, whose settings are those of every round unless `changes` says otherwise."""

    first: OneShot
    label: str
    count: int = 5
    pairs: int = 96
    steps: int = 60
    ask: int = 0  # of the clicks those that are asked before each further round; the first round has the others
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.label}-taste{self.first.taste}-{self.first.clicks}-s{self.first.seed}"


def paint(
    model: Model, prompts: Sequence[str], seeds: Sequence[int], on_image: Callable[[int], None]
) -> list[Image.Image]:
    assert isinstance(model, DiffusersModel)
    return sample(model.base, prompts, seeds, SAMPLING, batch_size=96)


def result_of(out: Path, run: InRounds) -> dict[str, Any]:
    """Go through the rounds and look at each LoRA, or read what an earlier call found."""
    place = out / "rounds" / f"{run.name}.json"
    if place.exists():
        return json.loads(place.read_text(encoding="utf-8"))
    taste, folder = Taste(run.first.taste), out / "work" / run.name
    shutil.rmtree(folder, ignore_errors=True)
    pairs = pair_folder(out, taste, run.first.clicks, run.first.seed)
    checks: list[Check] = []
    job = Job(DiffusersSource(MODEL), pairs, folder, config_of(run.first), cache=out / "encoded")
    rounds = Rounds(run.count, run.pairs, run.steps, limits=NO_LIMITS, ask=run.ask, changes=run.changes)

    def answer(number: int, questions: Sequence[FreshQuestion], images: Sequence[Path]) -> list[float | None]:
        rewards = [[taste(look(load_rgb(images[row]))) for row in (each.first, each.second)] for each in questions]
        return [float(first > second) for first, second in rewards]

    Course(job, rounds, paint, Onlooker(checked=lambda number, check: checks.append(check)), answer).run()
    base, looks = load_base(MODEL), []
    for number, check in enumerate(checks, 1):
        lora = RunFolder(folder if number == 1 else folder / "rounds" / str(number) / f"{folder.name}-r{number}").result
        with applied(base.unet, load_lora(lora, base.unet).weights):
            looks.append({"round": number, "check": check.to_dict(), **look_at(base)})
    result = {"taste": run.first.taste, "seed": run.first.seed, "name": run.name, "looks": looks}
    files.write_text(place, json.dumps(result))
    shutil.rmtree(folder, ignore_errors=True)
    return result


def told(result: dict[str, Any]) -> str:
    taste, lines = Taste(result["taste"]), [result["name"]]
    for seen in result["looks"]:
        check = ", ".join(f"{name} {value:.3f}" for name, value in seen["check"].items() if value is not None)
        lines.append(f"  {seen['round']}: {reward(seen, taste):+.2f} {fit(seen):.0%} ({check})")
    return "\n".join(lines)
