"""Train, look and compare: `python -m benchmarks.rounds [--out DIR] [--write-only]`.

Runs whose looks are in results.csv are not repeated. Every training is kept in DIR, so that a call goes on where
another stopped. With one thread a one-shot run takes one to two minutes, a course about five.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from . import in_rounds, one_shot, results
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
    parser.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS))
    parser.add_argument("--write-only", action="store_true", help="only print the table of the runs in results.csv")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.write_only:
        train(arguments.out, arguments.part, arguments.seeds)
    say(written(results.read(), list(one_shots()), list(courses())))


def train(out: Path, part: str, seeds: Sequence[int]) -> None:
    """Train what is not there yet, and put each look into results.csv."""
    base = base_look(out)
    results.write(results.base_row(base, taste) for taste in range(10))
    first, of = map(int, part.split("/"))
    known = {(row.run, row.taste) for row in results.read()}
    runs = [run for run in (*one_shots(), *courses()) if (run.name, taste_of(run)) not in known]
    for run in [run for run in runs if seed_of(run) in seeds][first::of]:
        found = one_shot.result_of(out, run) if isinstance(run, OneShot) else in_rounds.result_of(out, run)
        say(one_shot.told(found) if isinstance(run, OneShot) else in_rounds.told(found))
        results.write(results.rows_of(found))


def taste_of(run: OneShot | InRounds) -> int:
    return run.taste if isinstance(run, OneShot) else run.first.taste


def seed_of(run: OneShot | InRounds) -> int:
    return run.seed if isinstance(run, OneShot) else run.first.seed


if __name__ == "__main__":
    main()
