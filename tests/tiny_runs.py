"""A tiny base model and pair folder on disk, and the settings to train on them in a second."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_models import Family, write_diffusers_folder

from dspo_train.config import TrainConfig, from_dict
from dspo_train.runs.job import Job
from dspo_train.runs.session import open_session
from dspo_train.training import held_out
from dspo_train.training.trainer import StepReport


def write_base(folder: Path, family: Family = "sd15") -> Path:
    return write_diffusers_folder(folder, family)


def write_pairs(folder: Path, count: int = 6, seed: int = 0) -> Path:
    """Pairs of noise pictures in two shapes, 64x64 and 128x64, so that there are two buckets."""
    generator = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        height, width = (64, 64) if i % 3 else (64, 128)
        for side in "wl":
            pixels = generator.integers(0, 255, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"pair{i}_{side}.png")
        (folder / f"pair{i}.txt").write_text(f"red dog {i % 2}", encoding="utf-8")
    return folder


def write_opinions(folder: Path, liked: int = 5, disliked: int = 3, seed: int = 1) -> Path:
    """Noise pictures that were liked or disliked one by one, in the same two shapes; every caption another."""
    generator = np.random.default_rng(seed)
    for side, count in (("liked", liked), ("disliked", disliked)):
        (folder / side).mkdir(parents=True)
        for i in range(count):
            height, width = (64, 64) if i % 3 else (64, 128)
            pixels = generator.integers(0, 255, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / side / f"{i}.png")
            (folder / side / f"{i}.txt").write_text(f"{side} dog {i}", encoding="utf-8")
    return folder


def config(**changes: Any) -> TrainConfig:
    values: dict[str, Any] = {
        "steps": 6,
        "batch_size": 2,
        "save_every": 2,
        "precision": "fp32",
        "device": "cpu",
        "lora": {"rank": 2, "alpha": 2},
        "optim": {"lr": 1e-3},
        "data": {"resolution": 64, "bucket_step": 16},
    }
    return from_dict({**values, **changes})


def flags(**settings: Any) -> list[str]:
    """The same settings for the command line, with some changed or added; dots in keys are written `__`."""
    small = {
        "batch_size": 2,
        "precision": "fp32",
        "device": "cpu",
        "lora__rank": 2,
        "data__resolution": 64,
        "data__bucket_step": 16,
        **settings,
    }
    return [part for key, value in small.items() for part in ("--set", f"{key.replace('__', '.')}={value}")]


def train_and_cut(task: Job, step: int, cut: Path) -> list[StepReport]:
    """Train to the end; `cut` becomes a copy of the run folder as a crash after `step` would leave it, which saves the
    test of a resumed run the first part. `step` must be one that is checkpointed."""
    assert step % task.config.save_every == 0
    seen = []
    with open_session(task) as session:
        for report in session.reports():
            seen.append(report)
            if report.step == step:
                shutil.copytree(task.out, cut)
    return seen


def foretell(monkeypatch: pytest.MonkeyPatch, *accuracies: float) -> None:
    """Held-out pairs are measured, but their accuracy is the next of these, with no error: what noise pictures really
    show is chance, and which step is the best would hang on the last bit of a sum."""
    real, coming = held_out.measure, iter(accuracies)

    def measure(*args: Any) -> held_out.HeldOut:
        return dataclasses.replace(real(*args), accuracy=next(coming), accuracy_error=0.0)

    monkeypatch.setattr(held_out, "measure", measure)
