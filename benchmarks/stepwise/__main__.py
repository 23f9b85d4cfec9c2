"""Train, look and compare: `python -m benchmarks.stepwise --out DIR [--taste N]`.

The clicks, the candidates and the looks are those of `benchmarks.rounds`, whose DIR may be shared. A training takes
five to ten minutes with one thread.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

import torch

from benchmarks.rounds.looks import fit, reward
from benchmarks.rounds.one_shot import OneShot, base_look, config_of, say, trained
from benchmarks.rounds.tastes import Taste
from dspo_train import files
from dspo_train.demo.run import MODEL
from dspo_train.runs.diffusers_model import DiffusersSource
from dspo_train.stepwise.cost import OF_PAIRS, cost_of

RESULTS = Path(__file__).with_name("results.csv")
STEPS, LOOKS = 60, (20, 40, 60)
# Ten steps and the guidance of the test images; the rest as the methods have it.
DRAWN: dict[str, Any] = {"stepwise.steps": 10, "stepwise.guidance": 2.0, "objective_args.sharpness": 10.0}
TRAINED = 4  # of the seven steps that SPO could train, for equal work
VARIANTS: dict[str, dict[str, Any]] = {
    "tailorpo": {"stepwise.method": "tailorpo"},
    "tailorpo, next random": {"stepwise.method": "tailorpo", "stepwise.next": "random"},
    "tailorpo_g": {"stepwise.method": "tailorpo_g"},
    "spo": {"stepwise.method": "spo", "stepwise.gap": 0.0},
    "spo, next best": {"stepwise.method": "spo", "stepwise.gap": 0.0, "stepwise.next": "best"},
    "spo, pushed": {"stepwise.method": "spo", "stepwise.gap": 0.0, "stepwise.push": 0.5},
    "gradspo": {"stepwise.method": "gradspo", "stepwise.gap": 0.0},
    "spo, word budget": {"stepwise.method": "spo", "stepwise.gap": 0.0, "loss.word_budget": 0.1},
    "tailorpo_g, word budget": {"stepwise.method": "tailorpo_g", "loss.word_budget": 0.1},
    "spo, dspo": {"stepwise.method": "spo", "stepwise.gap": 0.0, "objective_args.sharpness": 1.4},
}
OBJECTIVES = {"spo, dspo": "dspo"}  # the others have diffusion_dpo


def run_of(taste: int, variant: str, seed: int = 0) -> OneShot:
    settings = {**DRAWN, **VARIANTS[variant], "stepwise.trained": TRAINED}
    return OneShot(taste, OBJECTIVES.get(variant, "diffusion_dpo"), settings, seed=seed, steps=STEPS)


def passes(run: OneShot, step: int) -> int:
    """Of the network for one image, until a step; those of two guidances are two."""
    config = config_of(run)
    cost = cost_of(config.stepwise, TRAINED)
    return step * config.batch_size * (cost.drawn + cost.graded)


def place_of(out: Path, run: OneShot, variant: str) -> Path:
    return out / "stepwise" / f"taste{run.taste}-{variant.replace(', ', '-').replace(' ', '-')}-s{run.seed}.json"


def write_results(out: Path) -> None:
    """Every look of every run that is there."""
    base, lines = base_look(out), ["taste,seed,variant,step,reward,fit,passes"]
    for number, variant, seed in itertools.product(range(10), VARIANTS, range(3)):
        run = run_of(number, variant, seed)
        place, taste = place_of(out, run, variant), Taste(number)
        if not place.exists():
            continue
        start = f"{number},,base,0,{reward(base, taste):.3f},{fit(base):.3f},0"
        if start not in lines:
            lines.append(start)
        for look in json.loads(place.read_text(encoding="utf-8"))["looks"]:
            told = f"{reward(look, taste):.3f},{fit(look):.3f},{passes(run, look['step'])}"
            lines.append(f'{number},{seed},"{variant}",{look["step"]},{told}')
    files.write_text(RESULTS, "\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Training on own steps, beside one training on the clicks.")
    parser.add_argument("--out", type=Path, default=Path("taste"))
    parser.add_argument("--taste", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write-only", action="store_true", help="write the results of the runs that are there")
    parser.add_argument("--only", nargs="*", choices=VARIANTS, default=list(VARIANTS), metavar="VARIANT")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    out, taste = arguments.out, Taste(arguments.taste)
    if arguments.write_only:
        write_results(out)
        return
    base = base_look(out)
    say(f"taste {taste.number}: {taste}; base {reward(base, taste):+.2f} {fit(base):.0%}; work {OF_PAIRS:.0f} per pair")
    for variant in arguments.only:
        run = run_of(taste.number, variant, arguments.seed)
        found = trained(out, run, DiffusersSource(MODEL), place_of(out, run, variant), LOOKS)
        looks = [f"{look['step']}: {reward(look, taste):+.2f} {fit(look):.0%}" for look in found["looks"]]
        say(f"{variant:22} {'  '.join(looks)}  {passes(run, STEPS) / 1000:.0f} thousand passes")


if __name__ == "__main__":
    main()
