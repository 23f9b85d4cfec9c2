"""What a training reports to the page while it runs."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import comfy.model_management as mm
import comfy.utils
from PIL import Image
from server import PromptServer

from ..dspo_train.runs.learning import learned, learned_in_words, time_left_in_words
from ..dspo_train.runs.reports import LATEST
from ..dspo_train.runs.session import Stage
from ..dspo_train.training.trainer import StepReport
from .setting_inputs import in_graph

SHOWN = ("step", "margin", "accuracy", "winner_change", "loser_change", "pairs_per_second")  # on an open page
HELD_OUT = tuple(f"held_out_{name}" for name in ("margin", "accuracy", "winner_change", "loser_change"))

log = logging.getLogger("dspo")


def going(number: int) -> dict[str, Any]:
    """What the panel is told of the rounds while one after the first is trained; its steps are told as the run's."""
    return {"number": number, "asked": None, "going": True, "set": None, "open": 0}


class Progress:
    """Reports progress to the page; after Cancel, each call raises core's exception for it.

    Attributes:
        what: what is encoded: "pairs" or "images".
        round: its number and of how many; None in the first, whose steps are the run's.
    """

    def __init__(self, node_id: str, run: str, steps: int, what: str = "pairs") -> None:
        self.node_id, self.run, self.steps, self.what = node_id, run, steps, what
        self.round: tuple[int, int] | None = None
        self.bar: comfy.utils.ProgressBar | None = None
        self.notes: list[str] = []
        self.pace: float | None = None  # seconds per step, smoothed
        self.latest: deque[dict[str, Any]] = deque(maxlen=LATEST)
        self.measured: dict[str, Any] = {}  # the last report with held-out pairs

    def begin_round(self, number: int, count: int, steps: int) -> None:
        """What follows is of that round; once it has begun, nothing."""
        if self.round == (number, count):
            return
        self.round, self.steps, self.pace, self.measured = (number, count), steps, None, {}
        self.latest.clear()

    def note(self, text: str) -> None:
        log.warning(in_graph(text))
        self.notes.append(f"Note: {in_graph(text)}")

    def stage(self, stage: Stage, done: int, total: int) -> None:
        doing, what = ("Checking", "images") if stage == "check" else ("Encoding", self.what)
        self._show([f"{doing}: {done} of {total} {what}"], done, total)

    def check_cancel(self, done: int, total: int) -> None:
        mm.throw_exception_if_processing_interrupted()

    def step(self, report: StepReport, preview: Image.Image | None, notes: Sequence[str] = ()) -> None:
        """Two lines of text, short enough for a narrow node, and one event; and a preview, if there is one.

        Args:
            notes: the run's own warnings so far, already logged.
        """
        self.pace = report.seconds if self.pace is None else 0.9 * self.pace + 0.1 * report.seconds
        left = 0.0 if report.stopped else self.pace * (self.steps - report.step)
        flat = report.flat()
        self.latest.append(flat)
        self.measured = flat if report.held_out else self.measured
        found = learned([self.measured, *self.latest] if self.measured else self.latest)
        measured = {name: value for name in HELD_OUT if math.isfinite(value := report.held_out.get(name, math.nan))}
        time_left = f" · {time_left_in_words(left)}" if report.step < self.steps and not report.stopped else ""
        title = [] if self.round is None else ["Round {} of {}".format(*self.round)]
        lines = [*title, f"Step {report.step} of {self.steps}{time_left}", learned_in_words(found)]
        if report.stopped:
            lines.append("Stopped early: the held-out pairs improved no further. The best step becomes the LoRA")
        shown = {name: getattr(report, name) for name in SHOWN}
        told = {"node": self.node_id, "steps": self.steps, "seconds_left": left, "learned": asdict(found)}
        if self.round is not None:
            told["round"] = going(self.round[0])
        self._send("run", {**told, **shown, **measured})
        if preview is not None:
            self._send("preview", {"file": f"step-{report.step:06d}.png"})
        self._show([*lines, *(f"Note: {in_graph(text)}" for text in notes)], report.step, self.steps, preview)

    def _send(self, event: str, values: dict[str, Any]) -> None:
        PromptServer.instance.send_sync(f"dspo.{event}", {"run": self.run, **values})

    def _show(self, lines: Sequence[str], done: int, total: int, preview: Image.Image | None = None) -> None:
        if self.bar is None or self.bar.total != total:
            self.bar = comfy.utils.ProgressBar(total, node_id=self.node_id)
        PromptServer.instance.send_progress_text("\n".join([*lines, *self.notes]), self.node_id)
        self.bar.update_absolute(done, total, None if preview is None else ("JPEG", preview, None))
