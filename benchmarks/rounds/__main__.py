"""Train, look and compare: `python -m benchmarks.rounds [--out DIR] [--write-only]`.

Every training is kept in DIR, so that a call goes on where another stopped, and several calls may share a DIR if they
take `--part` of the tastes each. With one thread a one-shot run takes one to two minutes, a course about five.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch

from . import in_rounds, one_shot
from .in_rounds import InRounds
from .one_shot import OneShot, base_look, say
from .report import written
from .tastes import REPORTED

SEEDS = (0, 1, 2)
SHARPNESS = (3, 10)  # of the one-shot runs: the two that were best in benchmarks/taste
CLICKS = 100


def one_shots() -> Iterator[OneShot]:
    for seed in SEEDS:
        for taste in REPORTED:
            for sharpness in SHARPNESS:
                settings = {"objective_args.sharpness": sharpness}
                yield OneShot(taste, "diffusion_dpo", settings, CLICKS, seed)


def courses() -> Iterator[InRounds]:
    for seed in SEEDS:
        for taste in REPORTED:
            yield course(taste, seed)


def course(taste: int, seed: int) -> InRounds:
    """The settings that were chosen on the other five tastes."""
    first = OneShot(taste, "dspo", {"loss.word_budget": 0.1}, CLICKS, seed, steps=60)
    return InRounds(first, "rounds", count=5)


def main() -> None:
    parser = argparse.ArgumentParser(description="One training against rounds, on tastes that nothing was tuned to.")
    parser.add_argument("--out", type=Path, default=Path("taste"))
    parser.add_argument("--part", default="0/1", metavar="I/N", help="every Nth run from the Ith on")
    parser.add_argument("--write-only", action="store_true", help="write the tables of the runs that are there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    out: Path = arguments.out
    base = base_look(out)
    first, of = map(int, arguments.part.split("/"))
    if not arguments.write_only:
        for run in list(one_shots())[first::of]:
            say(one_shot.told(one_shot.result_of(out, run)))
        for each in list(courses())[first::of]:
            say(in_rounds.told(in_rounds.result_of(out, each)))
    say(written(out, base, list(one_shots()), list(courses())))


if __name__ == "__main__":
    main()
