"""What is run: a literal table. Everything not named here is the same for all: see `config_of`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
FRESH_SEEDS = (5, 6, 7)  # for the same two: no setting was chosen by them
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
    "dspo_paper": ({"beta": 1}, {"beta": 10}, {}),
    "diffusion_dpo": (
        {"sharpness": 1},
        {"sharpness": 3},
        {"sharpness": 5},
        {"sharpness": 10},
        {"sharpness": 1000},
        {"sharpness": 3, "lr": 0.5},
        {"sharpness": 3, "lr": 2},
        {"sharpness": 10, "lr": 2},
    ),
    "dspo_e": ({"pull": 0.9}, {"pull": 0.5}),
    "dspo_implicit": ({"pull": 0.9}, {"pull": 0.5}),
    "dspo_sdxl": ({"beta": 5}, {"beta": 20}, {"beta": 5000}),
    "ipo": ({"tau": 2}, {"tau": 5}, {"tau": 20}),
    "diffusion_kto": ({"sharpness": 10}, {"sharpness": 30}, {"sharpness": 100}),
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


# The two objectives that are closest, and the settings of them that are looked at more closely.
CLOSE: dict[str, dict[str, Any]] = {"dspo": {}, "diffusion_dpo": {"sharpness": 3}}
COMPARED = (*CLOSE, "sft", "dspo_paper")
LEARNERS = tuple(name for name in SETTINGS if name != "dspo_ref")
BOTH = tuple(TASTES)
ONE = ("large_and_dark",)
# What the best setting of each objective, of `CLOSE` the one there, is trained on: (tastes, objectives, pairs, share of
# labels flipped, seeds)
ROUNDS: tuple[tuple[Sequence[str], Iterable[str], int, float, Sequence[int]], ...] = (
    (BOTH, LEARNERS, 400, 0.0, SEEDS),
    (BOTH, COMPARED, 100, 0.0, SEEDS),
    (ONE, ("ipo", "diffusion_kto"), 400, 0.2, SEEDS[:1]),
    (ONE, COMPARED, 400, 0.2, SEEDS),
    (BOTH, CLOSE, 400, 0.0, SEEDS + MORE_SEEDS + FRESH_SEEDS),
    (BOTH, CLOSE, 100, 0.0, SEEDS + MORE_SEEDS + FRESH_SEEDS),
    (ONE, CLOSE, 400, 0.2, SEEDS + MORE_SEEDS),
    (ONE, CLOSE, 50, 0.0, SEEDS),
    (ONE, CLOSE, 25, 0.0, SEEDS),
)
# What a run can do besides its objective, with seed 0: (objective, share of labels flipped, options). These were tried
# while 7 was the default sharpness of `dspo`.
BEFORE: dict[str, dict[str, Any]] = {**CLOSE, "dspo": {"sharpness": 7}}
OPTIONS: tuple[tuple[str, float, dict[str, Any]], ...] = (
    ("dspo", 0.0, {"ema": 0.98}),
    ("dspo", 0.0, {"moving_reference": 0.99}),
    ("dspo", 0.0, {"loss.min_snr": 5.0}),
    ("dspo", 0.0, {"loss.sft_mix": 0.25}),
    ("dspo", 0.0, {"data.caption_dropout": 0.2}),
    ("dspo", 0.2, {"loss.label_smoothing": 0.2}),
    ("diffusion_dpo", 0.0, {"loss.safeguard": 0.5}),  # where the alarm sounds
)
# Measured on pairs of captions that are left out of the training: what the choice of a step by them would keep.
HELD_OUT: dict[str, Any] = {"held_out.share": 0.125, "held_out.every": 25}


def second_runs(best: Mapping[tuple[str, str], str]) -> list[Run]:
    """All after the first round.

    Args:
        best: the label of the best setting of each (taste, objective); of `dspo` its default is taken, best or not.
    """
    chosen = {(r.taste, r.objective): r for r in settings_runs() if best[(r.taste, r.objective)] == r.label}
    chosen |= {(taste, "dspo"): Run(taste, "dspo") for taste in TASTES}
    rounds = [
        replace(
            Run(taste, objective, CLOSE[objective]) if names is CLOSE else chosen[(taste, objective)],
            pairs=pairs,
            flipped=flipped,
            seed=seed,
        )
        for tastes, names, pairs, flipped, seeds in ROUNDS
        for taste in tastes
        for objective in names
        for seed in seeds
    ]
    return [*rounds, *faster_runs(), *dial_runs(), *option_runs(), *held_out_runs()]


def faster_runs() -> Iterator[Run]:
    """The two closest at twice the learning rate, on the taste that is still being learned after 300 steps."""
    for objective, setting in CLOSE.items():
        for pairs in (400, 100):
            for seed in SEEDS:
                yield Run("further_left", objective, {**setting, "lr": 2}, pairs, seed=seed)


def option_runs() -> Iterator[Run]:
    """Every option once, on large and dark."""
    for objective, flipped, options in OPTIONS:
        yield Run("large_and_dark", objective, BEFORE[objective], flipped=flipped, options=options)


def dial_runs() -> Iterator[Run]:
    """`dspo` that lets learned pairs go later and sooner than at its default, or goes less far."""
    where = [(taste, pairs, 0.0) for taste in BOTH for pairs in (400, 100)] + [(*ONE, 400, 0.2)]
    for sharpness in (2, 7):
        for taste, pairs, flipped in where:
            for seed in SEEDS:
                yield Run(taste, "dspo", {"sharpness": sharpness}, pairs, flipped, seed)
    for taste, pairs, flipped in where:
        if taste in ONE:
            for seed in MORE_SEEDS if flipped else MORE_SEEDS + FRESH_SEEDS:
                yield Run(taste, "dspo", {"sharpness": 7}, pairs, flipped, seed)
    for strength in (10, 30):
        for seed in SEEDS:
            yield Run(*ONE, "dspo", {"strength": strength}, seed=seed)


def held_out_runs() -> Iterator[Run]:
    """The same two, measured on held-out pairs."""
    for taste in TASTES:
        for objective, setting in BEFORE.items():
            yield Run(taste, objective, setting, options=HELD_OUT)
