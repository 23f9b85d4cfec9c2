"""Does a setting mean the same on another model? `python -m benchmarks.rounds.carry_over --out DIR [--model FOLDER]`.

One training on 100 clicks of a taste that settings were chosen on, with the sharpness in what words do, a quarter and
four times of it, and with one in the model's own unit. Without `--model` for the embedded network, read as three
kinds of model; with it for that one, such as `smaller` makes, on clicks among its own images, and with its errors as v.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.taste.worlds import candidates
from dspo_train.demo.run import MODEL
from dspo_train.runs.diffusers_model import DiffusersSource
from dspo_train.training.model import ModelSource

from . import results
from .looks import fit, reward
from .one_shot import OneShot, base_look, say, trained
from .rereads import KINDS, RereadSource
from .results import base_row, rows_of
from .summing import best
from .tastes import Taste
from .world import WORLDS

SETTINGS: tuple[dict[str, Any], ...] = (
    {"objective_args.sharpness": 1.4},
    {"objective_args.sharpness": 0.35},
    {"objective_args.sharpness": 5.6},
    {"objective_args.sharpness": 4.0, "loss.unit": "model"},
)
CARRIED = results.FILE.with_name("carry_over.csv")
# Each with the settings that make it one.
Kinds = Mapping[str, tuple[ModelSource, Mapping[str, Any]]]


def main() -> None:
    parser = argparse.ArgumentParser(description="Does a setting mean the same on another model?")
    parser.add_argument("--out", type=Path, default=Path("taste"), help="a folder of its own for each model")
    parser.add_argument("--model", type=Path, default=MODEL, help="a diffusers folder")
    parser.add_argument("--world", choices=WORLDS, default="one", help="how many shapes its images show")
    parser.add_argument("--tastes", type=int, nargs="*", default=[4])
    parser.add_argument("--kinds", nargs="*", default=[], help="of the embedded network: v, noise, flow; default: all")
    parser.add_argument("--settings", type=int, default=len(SETTINGS), help="how many of the four to try")
    parser.add_argument("--clicks", type=int, default=100)
    parser.add_argument("--width", type=int, help="that the rate is meant for; the embedded model has 89")
    arguments = parser.parse_args()
    rate = {"optim.width": arguments.width} if arguments.width is not None else {}
    out, model, world = arguments.out, arguments.model, WORLDS[arguments.world]
    torch.set_num_threads(1)
    base = base_look(out, model, world)
    candidates(out, model, world)
    for number in arguments.tastes:
        taste = Taste(number, world)
        say(f"taste {number}: {taste}; base {reward(base, taste):+.2f} {fit(base):.0%}")
        for settings in SETTINGS[: arguments.settings]:
            for kind, (source, more) in kinds_of(model).items():
                if arguments.kinds and kind not in arguments.kinds:
                    continue
                asked = {**settings, **more, "loss.word_budget": 0.1, **rate}
                run = OneShot(number, "dspo", asked, arguments.clicks, world=world)
                place = out / "carry-over" / f"{kind}-{run.name}.json"
                found = trained(out, run, source, place)
                rows, start = rows_of(found, world), base_row(base, number, world)
                label = "embedded" if model == MODEL else model.name
                named = [replace(row, run=f"{label} {kind} {row.run}") for row in rows]
                results.write([replace(start, run=f"{label} base"), *named], CARRIED)
                kept = best(rows, start)
                last = found["looks"][-1]
                ending = f"{reward(last, taste):+.2f} {fit(last):.0%}, margin {last['margin']:.3g}"
                say(f"{kind:6} {settings}: {kept.reward:+.2f}; at the end {ending}")


def kinds_of(model: Path) -> Kinds:
    if model == MODEL:
        return {name: (RereadSource(kind), {"loss.errors": "model"}) for name, kind in KINDS.items()}
    source = DiffusersSource(model)
    return {"own": (source, {"loss.errors": "model"}), "as v": (source, {"loss.errors": "v"})}


if __name__ == "__main__":
    main()
