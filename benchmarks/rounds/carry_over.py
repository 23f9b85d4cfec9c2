"""Does a setting mean the same on another model? `python -m benchmarks.rounds.carry_over --out DIR`.

One training on 100 clicks of a taste that settings were chosen on, for the network read as three kinds of model: with
the sharpness in what words do, a quarter and four times of it, and with one in each model's own unit.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from .looks import fit, reward
from .one_shot import OneShot, base_look, say, trained
from .rereads import KINDS, RereadSource
from .summing import best
from .tastes import Taste

SETTINGS: tuple[dict[str, Any], ...] = (
    {"objective_args.sharpness": 1.4},
    {"objective_args.sharpness": 0.35},
    {"objective_args.sharpness": 5.6},
    {"objective_args.sharpness": 4.0, "loss.unit": "model"},
)
TASTES = (4,)
LOOKS = (75, 100, 125, 150)


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
                run = OneShot(number, "dspo", {**settings, "loss.word_budget": 0.1})
                place = out / "carry-over" / f"{kind}-{run.name}.json"
                found = trained(out, run, RereadSource(KINDS[kind]), place, LOOKS)
                kept = best(found["looks"], base, taste)
                last = found["looks"][-1]
                ending = f"{reward(last, taste):+.2f} {fit(last):.0%}, margin {last['margin']:.3g}"
                say(f"{kind:6} {settings}: {reward(kept, taste):+.2f}; at the end {ending}")


if __name__ == "__main__":
    main()
