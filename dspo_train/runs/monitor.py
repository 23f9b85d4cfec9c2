"""The measurements during a run, and what follows from them: the best step, an early stop, an alarm."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor

from ..config import TrainConfig
from ..data.bank import Bank
from ..models.denoiser import Denoiser
from ..training import held_out
from ..training.state import Training
from ..training.trainer import StepReport
from . import alarm, choosing
from .choosing import Evaluation
from .folder import RunFolder


@dataclass
class Monitor:
    """The measurements of one run.

    Attributes:
        bank: of the held-out pairs, if there are any.
        note: called with each warning.
        ceiling: the highest score of an image that was judged, where a taste ranks the run's own steps.
    """

    config: TrainConfig
    bank: Bank | None
    folder: RunFolder
    training: Training
    note: Callable[[str], None]
    ceiling: float = math.nan
    _seen: list[dict[str, Any]] = field(default_factory=list)
    _history: list[Evaluation] = field(default_factory=list)
    _origin: tuple[Tensor, ...] | None = None
    _told: set[str] = field(default_factory=set)

    def resume(self) -> None:
        """Load what an earlier part of the run measured."""
        self._seen = self.folder.reports()
        self._history = list(choosing.evaluations(self._seen))

    @property
    def over(self) -> bool:
        """Should the run stop before its last step?"""
        return choosing.should_stop(self._history, self.config.held_out.patience)

    @property
    def best(self) -> Evaluation | None:
        """The step whose weights become the result; None for the last step."""
        wanted = self.config.keep == "best" or self.over
        return choosing.best(self._history) if wanted else None

    def measured(self, report: StepReport, denoiser: Denoiser) -> StepReport:
        """Add a measurement on held-out pairs to the report if one is due, and keep the best weights."""
        config, bank = self.config, self.bank
        if bank is None or (report.step % config.held_out.every and report.step != config.steps):
            return report
        accelerator = self.training.accelerator
        with self.training.averaged():
            seen = self._measure(denoiser, bank, accelerator)
            self._history.append(Evaluation.of(report.step, seen))
            best = choosing.best(self._history)
            if accelerator.is_main_process and config.keeps_best and best is not None and best.step == report.step:
                self.folder.best.save(report.step, self.training.parameters, self.folder.checkpoints.oldest())
        values = held_out.to_report(seen)
        return dataclasses.replace(report, held_out={**values, "stopped": True} if self.over else values)

    def _measure(self, denoiser: Denoiser, bank: Bank, accelerator: Accelerator) -> held_out.HeldOut:
        device = accelerator.device
        if self._origin is None:
            self._origin = held_out.origin_predictions(denoiser, bank, device)
        found = held_out.measure(denoiser, bank, device, self._origin)
        (found,) = broadcast_object_list([found])  # devices may round differently, and all must stop together
        return found

    def watch(self, report: StepReport) -> None:
        """Warn, once each, of what the `alarm` sees in the reports."""
        self._seen.append(report.flat())
        needed = alarm.reports_needed(self.config.held_out.every)
        signs: dict[str, str | None] = {
            "worse": alarm.alarm(self._seen[-needed:]),
            "unranked": alarm.UNRANKED if alarm.unranked(self._seen) else None,
            "beyond": alarm.BEYOND if alarm.beyond(self._seen, self.ceiling) else None,
            "gamed": alarm.GAMED if alarm.gamed(self._seen) else None,
        }
        for sign, text in signs.items():
            if text and sign not in self._told:
                self.note(f"step {report.step}: {text}")
                self._told.add(sign)
