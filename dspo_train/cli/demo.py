"""`demo`: the whole loop, with a report of each stage."""

from __future__ import annotations

import argparse

from tqdm import tqdm

from ..demo.run import DemoSize, run_demo
from ..demo.taste import Verdict
from ..training.trainer import StepReport
from .main import OK, say
from .training import summary


def run(arguments: argparse.Namespace) -> int:
    bars = _Bars()
    try:
        result = run_demo(arguments.out, DemoSize(), say=bars.say, count=bars.count, watch=bars.watch)
    finally:
        bars.close()
    for line in report_lines(result.verdict):
        say(line)
    say(f"grid:  {result.grid}\ncurve: {result.curve}\ntook {result.seconds:.0f} seconds")
    return OK


def report_lines(verdict: Verdict) -> list[str]:
    return [
        "",
        f"win rate against the base under the hidden taste: {verdict.win_rate},",
        f"  {verdict.win_rate.comparisons} images from {verdict.win_rate.prompts} prompts",
        f"mean taste:  {verdict.reward_before:+.2f} before, {verdict.reward_after:+.2f} after",
        f"caption fit: {verdict.fit_before:.1%} before, {verdict.fit_after:.1%} after (shape and colour as prompted)",
    ]


class _Bars:
    """One progress bar at a time, by stage."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._stage = ""

    def count(self, stage: str, done: int, total: int) -> None:
        if stage != self._stage:
            self.close()
            self._stage, self._bar = stage, tqdm(total=total, desc=stage, unit="step", leave=False)
        assert self._bar is not None
        self._bar.update(done - self._bar.n)

    def watch(self, report: StepReport, steps: int) -> None:
        self.count("training", report.step, steps)
        assert self._bar is not None
        self._bar.set_postfix_str(summary(report), refresh=False)

    def say(self, line: str) -> None:
        self.close()
        say(line)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar, self._stage = None, ""
