"""One training on the clicks alone, looked at several times on its way."""

from __future__ import annotations

import json
import shutil
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.taste.plan import LEARNING_RATE
from dspo_train import files
from dspo_train.config import TrainConfig, from_names
from dspo_train.demo.run import MODEL
from dspo_train.runs.alarm import alarm
from dspo_train.runs.diffusers_model import DiffusersModel, DiffusersSource
from dspo_train.runs.job import Job
from dspo_train.runs.reports import LATEST
from dspo_train.runs.session import open_session
from dspo_train.training.model import ModelSource

from .looks import fit, look_at, reward
from .tastes import Taste, pair_folder
from .world import ONE_SHAPE, World

STEPS = 150
LOOKS = (25, 50, 75, 100, 125, 150)

COMMON: dict[str, Any] = {
    "batch_size": 8,
    "save_every": 10**6,
    "precision": "fp32",
    "device": "cpu",
    "lora.rank": 8,
    "lora.alpha": 8,
    "lora.targets": "attention+mlp",
    "optim.lr": LEARNING_RATE,
    "optim.schedule": "cosine",
    "optim.warmup": 10,
}


@dataclass(frozen=True)
class OneShot:
    """One training on `clicks` clicks of a taste; the seed is that of the clicks and of the training."""

    taste: int
    objective: str
    settings: dict[str, Any] = field(default_factory=dict)  # dotted
    clicks: int = 100
    seed: int = 0
    steps: int = STEPS
    world: World = ONE_SHAPE

    @property
    def name(self) -> str:
        words = [f"{key.rpartition('.')[2]}{value}" for key, value in self.settings.items()]
        return "-".join([f"taste{self.taste}", self.objective, *words, str(self.clicks), f"s{self.seed}"])


def config_of(run: OneShot) -> TrainConfig:
    size = {"data.resolution": run.world.side, "data.bucket_step": run.world.side}
    own = {"objective": run.objective, "steps": run.steps, "seed": run.seed}
    return from_names({**COMMON, **size, **own, **run.settings})


def result_of(out: Path, run: OneShot) -> dict[str, Any]:
    """See `trained`."""
    return trained(out, run, DiffusersSource(MODEL), out / "one-shot" / f"{run.name}.json")


def trained(out: Path, run: OneShot, source: ModelSource, place: Path, steps: Sequence[int] = LOOKS) -> dict[str, Any]:
    """Train and look, or read what an earlier call found and kept in `place`.

    Args:
        source: of a model that diffusers loaded.
        steps: after which it is looked at.
    """
    if place.exists():
        return json.loads(place.read_text(encoding="utf-8"))
    taste, folder = Taste(run.taste, run.world), out / "work" / place.stem
    shutil.rmtree(folder, ignore_errors=True)
    pairs = pair_folder(out, taste, run.clicks, run.seed)
    looks, reports = [], []
    with open_session(Job(source, pairs, folder, config_of(run), cache=out / "encoded")) as session:
        assert isinstance(session.model, DiffusersModel)
        for report in session.reports():
            reports.append(report.flat())
            if report.step in steps:
                looks.append({**_told(reports), **look_at(session.model.base, run.world)})
    shutil.rmtree(folder, ignore_errors=True)
    result = {"taste": run.taste, "seed": run.seed, "name": run.name, "looks": looks}
    files.write_text(place, json.dumps(result))
    return result


def _told(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What a run told until now: its alarm, and the means of its latest steps."""
    latest = reports[-LATEST:]
    names = ("margin", "drift", "accuracy", "winner_change")
    means = {name: statistics.fmean(report[name] for report in latest) for name in names}
    return {"step": latest[-1]["step"], "alarm": alarm(latest), **means}


def base_look(out: Path, model: Path = MODEL, world: World = ONE_SHAPE) -> dict[str, Any]:
    """What the untrained model draws; each has an `out` of its own."""
    place = out / "base.json"
    if not place.exists():
        from dspo_train.models.base import load_base

        files.write_text(place, json.dumps(look_at(load_base(model), world)))
    return json.loads(place.read_text(encoding="utf-8"))


def told(result: dict[str, Any]) -> str:
    taste = Taste(result["taste"])
    parts = [f"{look['step']}: {reward(look, taste):+.2f} {fit(look):.0%}" for look in result["looks"]]
    return f"{result['name']}  " + "  ".join(parts)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
