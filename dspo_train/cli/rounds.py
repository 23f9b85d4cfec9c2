"""`train --rounds`: one line for each stage of each round."""

from __future__ import annotations

import argparse

from tqdm import tqdm

from ..config import TrainConfig
from ..exceptions import ConfigError
from ..rounds.course import Course, Onlooker, Painter, Rounds
from ..rounds.guard import Check
from ..runs.job import Job
from ..training.trainer import StepReport
from .main import OK, say


def rounds_of(arguments: argparse.Namespace, config: TrainConfig) -> Rounds:
    """
    Raises:
        ConfigError: a number of rounds, steps or pairs that cannot be.
    """
    steps = max(1, config.steps // 2) if arguments.round_steps is None else arguments.round_steps
    numbers = {"--rounds": arguments.rounds, "--round-steps": steps, "--round-pairs": arguments.round_pairs}
    for name, value in numbers.items():
        if value < 1:
            raise ConfigError(f"{name} must be at least 1, got {value}")
    if arguments.rounds > 1 and config.method == "full":
        raise ConfigError("--rounds refines a LoRA, and `method` full trains none; leave one of them out")
    return Rounds(arguments.rounds, arguments.round_pairs, steps)


def in_rounds(job: Job, rounds: Rounds, painter: Painter) -> int:
    """Go through the rounds; stopped and called again, they go on where they were."""
    bars: dict[int, tqdm] = {}

    def step(number: int, report: StepReport) -> None:
        total = job.config.steps if number == 1 else rounds.steps
        if number not in bars:
            bars[number] = tqdm(total=total, initial=report.step - 1, unit="step", desc=f"round {number}")
        bars[number].update()
        if report.step == total:
            bars[number].close()

    def drawn(number: int, done: int, total: int) -> None:
        if done == total:
            say(f"{total} images drawn with the LoRA of round {number - 1}")

    onlooker = Onlooker(step=step, drawn=drawn, checked=lambda number, check: say(told(number, check)))
    ended = Course(job, rounds, painter, onlooker).run()
    why = f", because {ended.reason}" if ended.reason else ""
    say(f"round {ended.number} of {rounds.count} is kept{why}")
    say(f"LoRA:  {ended.folder.result}")
    return OK


def told(number: int, check: Check) -> str:
    """What the guard sees of a round, in one line."""
    parts = []
    if check.accuracy is not None:
        parts.append(f"the taste model foretells {check.accuracy:.0%} of unseen clicks")
    if check.spread is not None:
        parts.append(f"it is {check.spread:.1f} times as unsure of the new images as of the clicked ones")
    if check.fit_lost is not None:
        parts.append(f"{max(0.0, check.fit_lost):.1%} fewer of them show their prompt")
    return f"round {number}: " + "; ".join(parts)
