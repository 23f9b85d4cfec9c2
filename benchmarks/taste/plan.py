"""What is run: a literal table. Everything not named here is the same for all: see `config_of`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dspo_train import objectives
from dspo_train.config import TrainConfig, from_dict
from dspo_train.evaluate.shapes import SIZE

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
    own = {"sharpness": 4.0} if run.objective == "dspo" else {}  # the default, where margins are the model's own errors
    arguments = {**own, **{key: value for key, value in run.settings.items() if key != "lr"}}
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
        "loss": {"unit": "model"},
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


# By objective the setting that goes on; None: the one that did best in the first round.
Chosen = Mapping[str, dict[str, Any] | None]
CLOSE: dict[str, dict[str, Any]] = {"dspo": {}, "diffusion_dpo": {"sharpness": 3}}  # the two that are closest
FASTER: Chosen = {name: {**setting, "lr": 2} for name, setting in CLOSE.items()}
LEARNERS: Chosen = {**{name: None for name in SETTINGS if name != "dspo_ref"}, "dspo": {}}  # its default, best or not
COMPARED: Chosen = {name: LEARNERS[name] for name in ("dspo", "diffusion_dpo", "sft", "dspo_paper")}
SHARPNESS_2, SHARPNESS_7 = ({"dspo": {"sharpness": sharpness}} for sharpness in (2, 7))
STRENGTH_10, STRENGTH_30 = ({"dspo": {"strength": strength}} for strength in (10, 30))
BOTH = tuple(TASTES)
ONE = ("large_and_dark",)
SLOW = ("further_left",)  # still being learned after 300 steps at the usual learning rate
FIVE = SEEDS + MORE_SEEDS
EIGHT = FIVE + FRESH_SEEDS
# The second round: (tastes, objectives, pairs, share of labels flipped, seeds)
ROUNDS: tuple[tuple[Sequence[str], Chosen, int, float, Sequence[int]], ...] = (
    (BOTH, LEARNERS, 400, 0.0, SEEDS),
    (BOTH, COMPARED, 100, 0.0, SEEDS),
    (ONE, {"ipo": None, "diffusion_kto": None}, 400, 0.2, SEEDS[:1]),
    (ONE, COMPARED, 400, 0.2, SEEDS),
    (BOTH, CLOSE, 400, 0.0, EIGHT),
    (BOTH, CLOSE, 100, 0.0, EIGHT),
    (ONE, CLOSE, 400, 0.2, FIVE),
    (ONE, CLOSE, 50, 0.0, SEEDS),
    (ONE, CLOSE, 25, 0.0, SEEDS),
    (SLOW, FASTER, 400, 0.0, SEEDS),
    (SLOW, FASTER, 100, 0.0, SEEDS),
    (BOTH, SHARPNESS_2, 400, 0.0, SEEDS),
    (BOTH, SHARPNESS_2, 100, 0.0, SEEDS),
    (ONE, SHARPNESS_2, 400, 0.2, SEEDS),
    (ONE, SHARPNESS_7, 400, 0.0, EIGHT),
    (ONE, SHARPNESS_7, 100, 0.0, EIGHT),
    (ONE, SHARPNESS_7, 400, 0.2, FIVE),
    (SLOW, SHARPNESS_7, 400, 0.0, SEEDS),
    (SLOW, SHARPNESS_7, 100, 0.0, SEEDS),
    (ONE, STRENGTH_10, 400, 0.0, SEEDS),
    (ONE, STRENGTH_30, 400, 0.0, SEEDS),
)
# What a run can do besides its objective, with seed 0: (objective, share of labels flipped, options). These were tried
# while 7 was the default sharpness of `dspo`.
BEFORE: dict[str, dict[str, Any]] = {**CLOSE, **SHARPNESS_7}
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
        best: the label of the best setting of each (taste, objective).
    """
    found = {(r.taste, r.objective): r.settings for r in settings_runs() if best[(r.taste, r.objective)] == r.label}
    rounds = [
        Run(taste, name, found[(taste, name)] if setting is None else setting, pairs, flipped, seed)
        for tastes, chosen, pairs, flipped, seeds in ROUNDS
        for taste in tastes
        for name, setting in chosen.items()
        for seed in seeds
    ]
    return [*rounds, *option_runs(), *held_out_runs()]


def option_runs() -> Iterator[Run]:
    """Every option once, on large and dark."""
    for objective, flipped, options in OPTIONS:
        yield Run("large_and_dark", objective, BEFORE[objective], flipped=flipped, options=options)


def held_out_runs() -> Iterator[Run]:
    """The two that are closest, measured on held-out pairs."""
    for taste in TASTES:
        for objective, setting in BEFORE.items():
            yield Run(taste, objective, setting, options=HELD_OUT)
