"""The changing state of a run: what a checkpoint holds, and the averages that follow the weights."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import Parameter

from ..config import TrainConfig
from ..exceptions import RunError
from . import optim
from .words import FIRST_WEIGHT

_MARGIN_DECAY = 0.95  # of the running |margin|
# At the running |margin| the sigmoid's gradient is a fifth of its largest, ln 4 = logit(0.8), as in SimpleTuner.
_AUTO_LOGIT, _AUTO_LEAST, _AUTO_MOST = math.log(4), 1.0, 10000.0


@dataclass
class Training:
    """The changing state of a run: everything that a checkpoint has to hold.

    Attributes:
        parameters: the trained ones, by a stable name, float32.
        optimiser: over those parameters, in that order, prepared by the accelerator.
        step: optimiser steps done.
        torn: whether the optimiser is in the middle of changing the parameters.
        skipped: consecutive steps that fp16's gradient scaler skipped, as it does until it has found its scale.
        average: EMA of the parameters, if one is kept.
        moving: the reference EMA's tensors, by the parameters' names, if the reference is one.
        margin_size: moving average of |margin|, and its total weight.
        word_weight: of the word anchor; see `words.next_weight`.
        unit: of the margins that the loss sees; see `units`.
    """

    parameters: Mapping[str, Parameter]
    optimiser: torch.optim.Optimizer
    accelerator: Accelerator
    step: int = 0
    skipped: int = 0
    torn: bool = False
    average: dict[str, Tensor] = field(default_factory=dict)
    moving: Mapping[str, Tensor] = field(default_factory=dict)
    margin_size: tuple[float, float] = (0.0, 0.0)
    word_weight: float = FIRST_WEIGHT
    unit: float = 1.0

    @property
    def sound(self) -> bool:
        """Can the training continue from here?"""
        return not self.torn and all(bool(p.isfinite().all()) for p in self.parameters.values())

    def state(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, as tensors on the CPU."""
        scaler = self.accelerator.scaler
        scaling = {} if scaler is None else scaler.state_dict()
        return {
            **{f"parameter.{name}": p.detach().cpu() for name, p in self.parameters.items()},
            **{f"optimiser.{key}": value for key, value in optim.state_tensors(self.optimiser).items()},
            **{f"scaler.{key}": torch.tensor(value, dtype=torch.float64) for key, value in scaling.items()},
            **{f"average.{name}": value.cpu() for name, value in self.average.items()},
            **{f"moving.{name}": value.detach().cpu() for name, value in self.moving.items()},
            "margin_size": torch.tensor(self.margin_size, dtype=torch.float64),
            "word_weight": torch.tensor(self.word_weight, dtype=torch.float64),
            "unit": torch.tensor(self.unit, dtype=torch.float64),
            "step": torch.tensor(self.step),
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` gave.

        Raises:
            RunError: the state belongs to other parameters or to another optimiser.
        """
        groups = ("parameter", "optimiser", "scaler", "average", "moving")
        parts: dict[str, dict[str, Tensor]] = {group: {} for group in groups}
        for key, value in state.items():
            group, _, name = key.partition(".")
            if group in parts:
                parts[group][name] = value
        if parts["parameter"].keys() != self.parameters.keys():
            raise RunError("the checkpoint holds other layers than this run trains; choose a new folder")
        with torch.no_grad():
            for group, tensors in (("parameter", self.parameters), ("average", self.average), ("moving", self.moving)):
                for name, tensor in tensors.items():
                    tensor.copy_(parts[group][name])
        optim.load_state(self.optimiser, parts["optimiser"])
        if self.accelerator.scaler is not None and parts["scaler"]:
            numbers = {key: value.item() for key, value in parts["scaler"].items()}
            self.accelerator.scaler.load_state_dict(numbers)
        size, weight = state["margin_size"].tolist()
        self.margin_size = (size, weight)
        if "word_weight" in state:  # earlier versions kept none
            self.word_weight, self.unit = float(state["word_weight"]), float(state["unit"])
        self.step = int(state["step"])

    def follow(self, config: TrainConfig) -> None:
        """Update the average and the reference EMA after a step."""
        with torch.no_grad():
            # a warm-up, so that the first steps are soon forgotten
            decay = min(config.ema, (1 + self.step) / (10 + self.step))
            for name, value in self.average.items():
                value.lerp_(self.parameters[name], 1 - decay)
            for name, value in self.moving.items():
                value.lerp_(self.parameters[name], 1 - config.moving_reference)

    def averaged(self) -> AbstractContextManager[None]:
        """Inside, the parameters are their average, if one is kept."""
        return self.holding(self.average)

    @contextlib.contextmanager
    def holding(self, values: Mapping[str, Tensor]) -> Iterator[None]:
        """Inside, the parameters have these values, and there is no average."""
        kept = {name: self.parameters[name].detach().clone() for name in values}
        average, self.average = self.average, {}
        try:
            self._put(values)
            yield
        finally:
            self.average = average
            self._put(kept)

    def _put(self, values: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, value in values.items():
                self.parameters[name].copy_(value)

    def sharpness(self, config: TrainConfig) -> float | None:
        """The value of `loss.sharpness` at this step; None if it is not set."""
        given = config.loss.sharpness
        if given != "auto":
            return given
        size, weight = self.margin_size
        return min(_AUTO_MOST, max(_AUTO_LEAST, _AUTO_LOGIT * weight / size)) if size > 0 else _AUTO_MOST

    def saw_margin(self, size: float) -> None:
        """Take the mean |margin| of a step into the moving average."""
        self.margin_size = (
            _MARGIN_DECAY * self.margin_size[0] + (1 - _MARGIN_DECAY) * size,
            _MARGIN_DECAY * self.margin_size[1] + (1 - _MARGIN_DECAY),
        )
