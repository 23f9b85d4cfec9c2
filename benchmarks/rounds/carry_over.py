"""Does a setting mean the same on another model? `python -m benchmarks.rounds.carry_over --out DIR`.

One training on 100 clicks of a taste that settings were chosen on, for the network read as three kinds of model: with
the sharpness in what words do, a quarter and four times of it, and with one in each model's own unit.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch

from dspo_train import files
from dspo_train.runs.diffusers_model import DiffusersModel
from dspo_train.runs.job import Job
from dspo_train.runs.session import open_session

from .looks import fit, look_at, reward
from .one_shot import OneShot, base_look, config_of, say
from .rereads import KINDS, RereadSource
from .summing import best
from .tastes import Taste, pair_folder

SETTINGS: tuple[dict[str, Any], ...] = (
    {"objective_args.sharpness": 1.4},
    {"objective_args.sharpness": 0.35},
    {"objective_args.sharpness": 5.6},
    {"objective_args.sharpness": 4.0, "loss.unit": "model"},
)
TASTES = (4,)
LOOKS = (75, 100, 125, 150)


def result_of(out: Path, kind: str, run: OneShot) -> dict[str, Any]:
    """Train a reading of the network and look at it, or read what an earlier call found."""
    place = out / "carry-over" / f"{kind}-{run.name}.json"
    if place.exists():
        return json.loads(place.read_text(encoding="utf-8"))
    folder = out / "work" / f"{kind}-{run.name}"
    shutil.rmtree(folder, ignore_errors=True)
    pairs = pair_folder(out, Taste(run.taste), run.clicks, run.seed)
    looks = []
    with open_session(Job(RereadSource(KINDS[kind]), pairs, folder, config_of(run), cache=out / "encoded")) as session:
        assert isinstance(session.model, DiffusersModel)
        for report in session.reports():
            if report.step in LOOKS:
                told = {"step": report.step, "margin": report.margin, "drift": report.drift}
                looks.append({**told, **look_at(session.model.base)})
    shutil.rmtree(folder, ignore_errors=True)
    result = {"kind": kind, "taste": run.taste, "seed": run.seed, "name": run.name, "looks": looks}
    files.write_text(place, json.dumps(result))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description="Does a setting mean the same on another model?")
    parser.add_argument("--out", type=Path, default=Path("taste"))
    out: Path = parser.parse_args().out
    torch.set_num_threads(1)
    base = base_look(out)
    for number in TASTES:
        taste = Taste(number)
        say(f"taste {number}: {taste}; base {reward(base, taste):+.2f}")
        for settings in SETTINGS:
            for kind in KINDS:
                found = result_of(out, kind, OneShot(number, "dspo", {**settings, "loss.word_budget": 0.1}))
                kept = best(found["looks"], base, taste)
                last = found["looks"][-1]
                ending = f"{reward(last, taste):+.2f} {fit(last):.0%}, margin {last['margin']:.3g}"
                say(f"{kind:6} {settings}: {reward(kept, taste):+.2f}; at the end {ending}")


if __name__ == "__main__":
    main()
