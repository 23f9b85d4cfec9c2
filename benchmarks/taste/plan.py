"""What is run: a literal table. Everything not named here is the same for all: see `config_of`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dspo_train import objectives
from dspo_train.config import TrainConfig, from_dict
from dspo_train.demo.world import SIZE

from .worlds import TASTES

STEPS = 300
LOOKS = (50, 75, 100, 125, 150, 200, 250, 300)  # steps after which test pictures are drawn
SEEDS = (0, 1, 2)
MORE_SEEDS = (3, 4)  # for the two objectives that are closest
LEARNING_RATE = 1e-3  # the same for every objective

# The settings tried for each objective, with seed 0, on 400 pairs of each taste; the best at the usual learning rate
# goes on to all seeds. `lr` multiplies the learning rate.
SETTINGS: dict[str, tuple[dict[str, Any], ...]] = {
    "dspo": (
        {},
        {"strength": 10},
        {"strength": 30},
        {"sharpness": 2},
        {"sharpness": 7},
        {"lr": 0.5},
        {"lr": 2},
    ),
    "sft": ({}, {"lr": 2}),
    "dspo_paper": ({}, {"beta": 1}),
    "diffusion_dpo": (
        {"sharpness": 3},
        {"sharpness": 10},
        {"sharpness": 1000},
        {"sharpness": 3, "lr": 0.5},
        {"sharpness": 3, "lr": 2},
        {"sharpness": 10, "lr": 2},
    ),
    "dspo_e": ({"pull": 0.9}, {"pull": 0.5}),
    "dspo_implicit": ({"pull": 0.9}, {"pull": 0.5}),
    "dspo_sdxl": ({"beta": 20}, {"beta": 5000}),
    "ipo": ({"tau": 5}, {"tau": 20}),
    "diffusion_kto": ({"sharpness": 30}, {"sharpness": 100}),
    "mapo": ({"beta": 0.1}, {"beta": 1}),
    "dspo_ref": ({},),  # no strength moves it: see its docstring
}


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        settings: the objective's arguments, and `lr`, a factor, where it differs.
        options: further settings of the run, dotted.
    """

    taste: str
    objective: str
    settings: dict[str, Any] = field(default_factory=dict)
    pairs: int = 400
    flipped: float = 0.0
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        words = [f"{key} {value:g}" for key, value in self.settings.items()]
        words += [f"{key} {value}" for key, value in self.options.items()]
        return f"{self.objective} {', '.join(words) or 'at its default'}"

    @property
    def key(self) -> str:
        """The run's file name: everything that it depends on."""
        config = config_of(self)
        asked = config.to_dict() | {"objective_args": objectives.arguments_in(config)}
        text = json.dumps([self.taste, self.pairs, self.flipped, LOOKS, asked], sort_keys=True)
        return f"{self.objective}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def config_of(run: Run) -> TrainConfig:
    arguments = {key: value for key, value in run.settings.items() if key != "lr"}
    values: dict[str, Any] = {
        "objective": run.objective,
        "objective_args": arguments,
        "steps": STEPS,
        "batch_size": 8,
        "save_every": STEPS,
        "precision": "fp32",
        "device": "cpu",
        "seed": run.seed,
        "lora": {"rank": 8, "alpha": 8, "targets": "attention+mlp"},
        "optim": {"lr": LEARNING_RATE * run.settings.get("lr", 1), "schedule": "cosine", "warmup": 10},
        "data": {"resolution": SIZE, "bucket_step": SIZE},
    }
    for key, value in run.options.items():
        group, _, name = key.rpartition(".")
        (values.setdefault(group, {}) if group else values)[name] = value
    return from_dict(values)


def settings_runs() -> Iterator[Run]:
    """Every setting of every objective once."""
    for taste in TASTES:
        for objective, settings in SETTINGS.items():
            for setting in settings:
                yield Run(taste, objective, setting)


# (pairs, share of labels flipped) that the best settings are trained on
CONDITIONS = ((400, 0.0), (100, 0.0), (400, 0.2), (50, 0.0), (25, 0.0))
CLOSE: dict[str, dict[str, Any]] = {"dspo": {}, "diffusion_dpo": {"sharpness": 3}}
# What a run can do besides its objective, tried on `dspo` with seed 0: (share of labels flipped, options)
OPTIONS: tuple[tuple[float, dict[str, Any]], ...] = (
    (0.0, {"ema": 0.98}),
    (0.0, {"moving_reference": 0.99}),
    (0.0, {"loss.min_snr": 5.0}),
    (0.0, {"loss.sft_mix": 0.25}),
    (0.0, {"data.caption_dropout": 0.2}),
    (0.2, {"loss.label_smoothing": 0.2}),
)
# Measured on pairs of captions that are left out of the training: what the choice of a step by them would keep.
HELD_OUT: dict[str, Any] = {"held_out.share": 0.125, "held_out.every": 25}


def default_runs() -> Iterator[Run]:
    """`dspo` at its default, which is compared whether it is the best of its settings or not."""
    yield from (Run(taste, "dspo") for taste in TASTES)


def seed_runs(
    chosen: Iterable[Run],
    conditions: Sequence[tuple[int, float]] = CONDITIONS,
    seeds: Sequence[int] = SEEDS,
) -> Iterator[Run]:
    """The chosen settings with every seed in every condition."""
    for run in chosen:
        for pairs, flipped in conditions:
            for seed in seeds:
                yield replace(run, pairs=pairs, flipped=flipped, seed=seed)


def close_runs(chosen: Iterable[Run]) -> Iterator[Run]:
    """More seeds of the two objectives that are closest."""
    return seed_runs((run for run in chosen if run.objective in CLOSE), CONDITIONS[:3], MORE_SEEDS)


def faster_runs() -> Iterator[Run]:
    """The same two at twice the learning rate, on the taste that is still being learned after 300 steps."""
    faster = (Run("further_left", objective, {**setting, "lr": 2}) for objective, setting in CLOSE.items())
    return seed_runs(faster, CONDITIONS[:2])


def option_runs() -> Iterator[Run]:
    """Every option once, on large and dark."""
    for flipped, options in OPTIONS:
        yield Run("large_and_dark", "dspo", flipped=flipped, options=options)


def dial_runs() -> Iterator[Run]:
    """`dspo` that lets learned pairs go later and sooner than at its default, which was chosen by these."""
    dialled = (Run(taste, "dspo", {"sharpness": sharpness}) for sharpness in (2, 7) for taste in TASTES)
    return seed_runs(dialled, CONDITIONS[:3])


def held_out_runs() -> Iterator[Run]:
    """`dspo` at its default and the `diffusion_dpo` that goes furthest, measured on held-out pairs."""
    for taste in TASTES:
        for objective, setting in CLOSE.items():
            yield Run(taste, objective, setting, options=HELD_OUT)
