"""The training loop: the only place that reduces losses, clips gradients and steps."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import Parameter

from . import draws, objectives, optim
from .batches import PairSource
from .config import TrainConfig
from .denoiser import Denoiser
from .errors import PairErrors, pair_errors
from .exceptions import RunError


@dataclass(frozen=True)
class StepReport:
    """What one optimiser step saw, averaged over its pairs.

    Attributes:
        step: counted from 1.
        margin: implicit reward of winners over losers, mean squared error; above 0 is progress.
        accuracy: share of pairs with a positive margin, ties at one half.
        winner_change, loser_change: policy error minus reference error; negative is better prediction.
        drift: mean squared distance between policy and reference.
        seconds: of this step alone.
    """

    step: int
    loss: float
    margin: float
    accuracy: float
    winner_change: float
    loser_change: float
    drift: float
    grad_norm: float
    lr: float
    pairs_per_second: float
    seconds: float


_MOST_SKIPPED = 40  # the scale halves each time: 2^16 has become 2^-24 by then
_SUMS = ("loss", "margin", "accuracy", "winner_change", "loser_change", "drift")


@dataclass
class Training:
    """The moving parts of a run; everything that a checkpoint has to hold.

    Attributes:
        parameters: the adapter's, by a stable name, float32.
        optimiser: over those parameters, in that order, prepared by the accelerator.
        step: optimiser steps done.
        torn: the optimiser is in the middle of changing the parameters.
        skipped: steps in a row that fp16's gradient scaler left out, as it does until it has found its scale.
    """

    parameters: Mapping[str, Parameter]
    optimiser: torch.optim.Optimizer
    accelerator: Accelerator
    step: int = 0
    skipped: int = 0
    torn: bool = False

    @property
    def sound(self) -> bool:
        """Could the training go on from here?"""
        return not self.torn and all(bool(p.isfinite().all()) for p in self.parameters.values())

    def state(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, as tensors on the CPU."""
        scaler = self.accelerator.scaler
        scaling = {} if scaler is None else scaler.state_dict()
        return {
            **{f"parameter.{name}": p.detach().cpu() for name, p in self.parameters.items()},
            **{f"optimiser.{key}": value for key, value in optim.state_tensors(self.optimiser).items()},
            **{f"scaler.{key}": torch.tensor(value, dtype=torch.float64) for key, value in scaling.items()},
            "step": torch.tensor(self.step),
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `state` gave.

        Raises:
            RunError: the state is of another adapter or optimiser.
        """
        parts: dict[str, dict[str, Tensor]] = {"parameter": {}, "optimiser": {}, "scaler": {}}
        for key, value in state.items():
            group, _, name = key.partition(".")
            if group in parts:
                parts[group][name] = value
        if parts["parameter"].keys() != self.parameters.keys():
            raise RunError("the checkpoint holds an adapter of other layers than this run trains")
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(parts["parameter"][name])
        optim.load_state(self.optimiser, parts["optimiser"])
        if self.accelerator.scaler is not None and parts["scaler"]:
            numbers = {key: value.item() for key, value in parts["scaler"].items()}
            self.accelerator.scaler.load_state_dict(numbers)
        self.step = int(state["step"])


def begin(parameters: Mapping[str, Parameter], config: TrainConfig, accelerator: Accelerator) -> Training:
    """Make the optimiser for an attached adapter."""
    optimiser = accelerator.prepare(optim.build(list(parameters.values()), config.optim))
    return Training(parameters, optimiser, accelerator)


def train(
    denoiser: Denoiser, source: PairSource, config: TrainConfig, training: Training
) -> Generator[StepReport, None, None]:
    """Step until `config.steps`, reporting each; `training` is always at a whole step between reports.

    Raises:
        RunError: loss or gradient are no longer finite; the weights are those of the last good step.
    """
    loss_of = objectives.bind(config.objective, config.objective_args)
    trains_loser = objectives.find(config.objective).trains_loser
    accelerator = training.accelerator
    while training.step < config.steps:
        started = time.monotonic()
        lr = optim.learning_rate(config.optim, training.step, config.steps)
        for group in training.optimiser.param_groups:
            group["lr"] = lr
        sums = torch.zeros(len(_SUMS), dtype=torch.float64)
        with _seeded_dropout(config, training, accelerator):
            for batch in source.step(training.step):
                batch = batch.to(accelerator.device)
                with accelerator.autocast():
                    errors = pair_errors(denoiser, batch, loser_gradient=trains_loser)
                losses = loss_of(errors)
                accelerator.backward(losses.sum() / source.per_step)
                sums += _sums(losses, errors)
        grad_norm = _apply_gradients(training, config)
        total = accelerator.reduce(sums.to(accelerator.device, torch.float32), reduction="sum")
        assert isinstance(total, Tensor)
        means = total.cpu().double() / source.per_step  # each process saw its own part of the step
        training.step += 1
        seconds = time.monotonic() - started
        yield StepReport(
            step=training.step,
            **dict(zip(_SUMS, means.tolist(), strict=True)),
            grad_norm=grad_norm,
            lr=lr,
            pairs_per_second=source.per_step / seconds,
            seconds=seconds,
        )


@torch.no_grad()
def _sums(losses: Tensor, errors: PairErrors) -> Tensor:
    """Sums over a batch, in the order of `_SUMS`. -> (6,) float64"""
    margin = errors.margin
    rows = (
        losses,
        margin,
        (margin.sign() + 1) / 2,
        errors.policy_w - errors.reference_w,
        errors.policy_l - errors.reference_l,
        (errors.drift_w + errors.drift_l) / 2,
    )
    return torch.stack([row.double().sum() for row in rows]).cpu()


def _apply_gradients(training: Training, config: TrainConfig) -> float:
    """Add the processes' gradients, clip, step and clear. -> norm before clipping"""
    parameters, accelerator = list(training.parameters.values()), training.accelerator
    if accelerator.num_processes > 1:
        _sum_over_processes(parameters, accelerator)
    norm = accelerator.clip_grad_norm_(parameters, config.optim.max_grad_norm)
    grad_norm = math.nan if norm is None else float(norm)
    # With fp16 the scaler skips such a step by itself and lowers its scale.
    if accelerator.scaler is None and not math.isfinite(grad_norm):
        raise RunError(
            f"step {training.step + 1}: the gradient is not finite ({grad_norm}). Lower the learning rate or the "
            "objective's strength; the weights as they were before this step are kept"
        )
    training.torn = True
    training.optimiser.step()
    training.torn = False
    training.optimiser.zero_grad()
    training.skipped = training.skipped + 1 if accelerator.optimizer_step_was_skipped else 0
    if training.skipped >= _MOST_SKIPPED:
        raise RunError(
            f"step {training.step + 1}: the gradient overflowed fp16 in {training.skipped} steps in a row. "
            "Use precision bf16 or fp32, or lower the learning rate"
        )
    return grad_norm


def _sum_over_processes(parameters: list[Parameter], accelerator: Accelerator) -> None:
    """One reduction of one flat vector: a LoRA is small, and this stays exact whatever the packing."""
    grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    flat = accelerator.reduce(torch.cat([g.flatten() for g in grads]), reduction="sum")
    assert isinstance(flat, Tensor)
    for parameter, part in zip(parameters, flat.split([g.numel() for g in grads]), strict=True):
        parameter.grad = part.view_as(parameter).clone()


@contextlib.contextmanager
def _seeded_dropout(config: TrainConfig, training: Training, accelerator: Accelerator) -> Iterator[None]:
    """Dropout draws from torch's global generators; borrow them for a step, seeded by it."""
    if config.lora.dropout == 0:
        yield
        return
    device = accelerator.device
    devices = [] if device.type in ("cpu", "mps") else [device.index or 0]
    with torch.random.fork_rng(devices, device_type="cuda" if device.type in ("cpu", "mps") else device.type):
        torch.manual_seed(draws.number(config.seed, "dropout", training.step, accelerator.process_index))
        yield
