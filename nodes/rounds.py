"""Rounds inside ComfyUI: the model draws as the images of the set were drawn, and the page is told of each stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import comfy.model_management as mm
from PIL import Image
from server import PromptServer

from ..dspo_train.files.words import many
from ..dspo_train.pairs import Scan
from ..dspo_train.preferences.snapshot import SetSnapshot
from ..dspo_train.rounds.course import Course, Ended, Onlooker, Rounds
from ..dspo_train.rounds.guard import Check
from ..dspo_train.runs.job import Job
from ..dspo_train.training.model import Model
from ..dspo_train.training.trainer import StepReport
from .comfy.draw import drawn_many
from .comfy.model import ComfyModel
from .fresh_clicks import PanelAsker
from .progress import Progress

PART = 2  # each further round has this part of the first one's steps
_SAMPLING = ("steps", "cfg", "sampler_name", "scheduler")


@dataclass(frozen=True)
class WiredPainter:
    """Implements `course.Painter` for a wired model.

    Attributes:
        side: pixels, where `size` is not known.
        size: (width, height) in pixels of the set's images, if they were drawn here.
        sampling: steps, cfg, sampler_name and scheduler with which they were drawn; empty for the family's usual ones.
    """

    side: int
    size: tuple[int, int] | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    negative: str = ""

    def __call__(
        self, model: Model, prompts: Sequence[str], seeds: Sequence[int], on_image: Callable[[int], None]
    ) -> list[Image.Image]:
        """See `course.Painter`."""
        assert isinstance(model, ComfyModel)
        wanted = [
            (text, [seed for _, seed in rows]) for text, rows in groupby(zip(prompts, seeds, strict=True), _first)
        ]
        width, height = self.size or (self.side, self.side)
        return drawn_many(model, wanted, self.negative, (width, height), self.sampling, on_image)


def painter_of(scan: Scan, side: int) -> WiredPainter:
    """Draws as the newest images of a set were drawn; as previews are drawn where the set does not say."""
    groups = SetSnapshot(scan.folder).groups() if scan.layout in ("collected", "opinions") else []
    known = next((group.settings for group in reversed(groups) if set(_SAMPLING) <= group.settings.keys()), None)
    if known is None:
        return WiredPainter(side)
    size = (int(known["width"]), int(known["height"])) if {"width", "height"} <= known.keys() else None
    return WiredPainter(side, size, {name: known[name] for name in _SAMPLING}, str(known.get("negative", "")))


def course_of(job: Job, count: int, fresh: int = 0, progress: Progress | None = None) -> Course:
    """The rounds of a run whose first round is done.

    Args:
        fresh: clicks to ask for between rounds.
    """
    rounds = Rounds(count, steps=max(1, job.config.steps // PART), ask=fresh)
    assert job.scan is not None
    onlooker = Onlooker() if progress is None else _Told(progress, rounds).onlooker()
    asker = PanelAsker(job.out.name) if fresh else None
    return Course(job, rounds, painter_of(job.scan, job.config.data.resolution), onlooker, asker)


def outcome(ended: Ended, count: int) -> str:
    """For the node."""
    kept = f"Round {ended.number} of {count} became the LoRA"
    return f"{kept}: {ended.reason}" if ended.reason else kept


@dataclass
class _Told:
    """Tells the page of the stages of each round."""

    progress: Progress
    rounds: Rounds

    def onlooker(self) -> Onlooker:
        return Onlooker(self.progress.stage, self.step, self.drawn, self.checked, self.progress.note)

    def step(self, number: int, report: StepReport) -> None:
        mm.throw_exception_if_processing_interrupted()
        self.progress.begin_round(number, self.rounds.count, self.rounds.steps)
        self.progress.step(report, None)

    def drawn(self, number: int, done: int, total: int) -> None:
        mm.throw_exception_if_processing_interrupted()
        text = f"Drawing with the LoRA of round {number - 1}: {done} of {many(total, 'image')}"
        PromptServer.instance.send_progress_text(text, self.progress.node_id)

    def checked(self, number: int, check: Check) -> None:
        mm.throw_exception_if_processing_interrupted()
        if check.accuracy is not None:
            known = f"We know your taste to {check.accuracy:.0%}"
            PromptServer.instance.send_progress_text(f"Round {number} is checked. {known}", self.progress.node_id)


def _first(row: tuple[str, int]) -> str:
    return row[0]
