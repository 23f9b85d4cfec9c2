"""The training loop: the only place where losses are reduced, gradients clipped and steps taken."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import Parameter

from .. import objectives
from ..config import TrainConfig
from ..data import draws
from ..data.batch import Batch
from ..data.on_policy import OnPolicySource
from ..data.source import Source
from ..exceptions import RunError
from ..models.denoiser import Denoiser
from ..objectives.errors import PairErrors
from . import optim
from .forward import errors_of, predicted
from .state import Training
from .words import next_weight, word_errors


@dataclass(frozen=True)
class StepReport:
    """The figures of one optimiser step, averaged over its pairs.

    Attributes:
        step: counted from 1.
        margin: implicit reward of winners over losers, mean squared error; above 0 is progress.
        accuracy: share of pairs with a positive margin, ties counted as one half.
        winner_change, loser_change: policy error minus reference error; negative is better prediction.
        drift: mean squared distance between policy and reference.
        seconds: of this step alone.
        sharpness: the value of `loss.sharpness`, if it is set.
        words: the share of what the words do that has changed, and the anchor's weight; see `words`. None at steps that
            do not look.
        drawn: of a run that draws its own images, what `OnPolicySource.figures` says; empty otherwise.
        held_out: the measurement on held-out pairs after this step, flat; empty between measurements.
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
    sharpness: float | None = None
    words: float | None = None
    word_weight: float | None = None
    drawn: Mapping[str, float] = field(default_factory=dict)
    held_out: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stopped(self) -> bool:
        """Did the run stop early after this step?"""
        return bool(self.held_out.get("stopped"))

    def flat(self) -> dict[str, Any]:
        """Everything that is set, on one level, as in a line of reports."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("held_out", "drawn")}
        unset = {name for name in ("sharpness", "words", "word_weight") if values[name] is None}
        return {**{name: value for name, value in values.items() if name not in unset}, **self.drawn, **self.held_out}


_MOST_SKIPPED = 40  # the scale halves each time: from 2^16 to 2^-24 by then
_SUMS = ("loss", "margin", "accuracy", "winner_change", "loser_change", "drift")


def begin(
    parameters: Mapping[str, Parameter],
    config: TrainConfig,
    accelerator: Accelerator,
    moving: Mapping[str, Tensor] | None = None,
) -> Training:
    """Make the initial state; `moving` holds the tensors of a reference EMA."""
    optimiser = accelerator.prepare(optim.build(parameters, config.optim))
    average = {name: p.detach().clone() for name, p in parameters.items()} if config.ema else {}
    return Training(parameters, optimiser, accelerator, average=average, moving=moving or {})


def train(
    denoiser: Denoiser, source: Source[Any] | OnPolicySource, config: TrainConfig, training: Training
) -> Generator[StepReport, None, None]:
    """Train until `config.steps` and report each step; between reports `training` is always at a whole step.

    Raises:
        RunError: the gradient is no longer finite; the weights are those of the last good step.
    """
    has_loser, loss_at = objectives.find_objective(config.objective).has_loser, objectives.loss_of(config)
    accelerator = training.accelerator
    while training.step < config.steps:
        started = time.monotonic()
        lr = optim.learning_rate(config.optim, training.step, config.steps)
        for group in training.optimiser.param_groups:
            group["lr"] = lr * group["share"]
        sharpness = training.sharpness(config)
        loss_of = objectives.in_unit(loss_at(sharpness), training.unit)
        slope = objectives.slope_at_reference(loss_of) if source.words_every else 0.0
        sums = torch.zeros(len(_SUMS) + 3, dtype=torch.float64)
        with _seeded_dropout(config, training, accelerator):
            for batch in source.step(training.step):
                batch = batch.to(accelerator.device)
                seen = predicted(denoiser, batch, loser_gradient=has_loser)
                errors = errors_of(seen, batch)
                losses = _losses(loss_of, errors, batch, has_loser)
                if config.loss.min_snr is not None:
                    losses = losses * denoiser.process.weight(batch.row_times, config.loss.min_snr)
                known = _sums(losses, errors)
                if batch.others is not None:
                    words = word_errors(denoiser, batch, seen)
                    losses = losses + words.cost(training.word_weight * source.words_every, slope)
                    known[-2:] = torch.stack([words.change, words.effect]).detach().double().sum(1).cpu()
                accelerator.backward(losses.sum() / source.per_step)
                sums += known
        grad_norm = _apply_gradients(training, config)
        total = accelerator.reduce(sums.to(accelerator.device, torch.float32), reduction="sum")
        assert isinstance(total, Tensor)
        *means, margin_size, change, effect = (total.cpu().double() / source.per_step).tolist()  # of all processes
        share = change / effect if effect else None
        training.step += 1
        training.follow(config)
        training.saw_margin(margin_size)
        weight = training.word_weight if share is not None else None
        if share is not None and config.loss.word_budget is not None:
            training.word_weight = next_weight(training.word_weight, share, config.loss.word_budget)
        seconds = time.monotonic() - started
        yield StepReport(
            step=training.step,
            **dict(zip(_SUMS, means, strict=True)),
            grad_norm=grad_norm,
            lr=lr,
            pairs_per_second=source.per_step / seconds,
            seconds=seconds,
            sharpness=sharpness,
            words=share,
            word_weight=weight,
            drawn=dict(source.figures),
        )


def _losses(loss_of: objectives.Loss, errors: PairErrors, batch: Batch, has_loser: bool) -> Tensor:
    if batch.doubt is None:
        return loss_of(errors)
    return objectives.doubted(loss_of, errors, batch.doubt, has_loser=has_loser)


@torch.no_grad()
def _sums(losses: Tensor, errors: PairErrors) -> Tensor:
    """Sums over a batch, in the order of `_SUMS`, of |margin|, and room for the words'. -> (9,) float64"""
    margin = errors.margin
    rows = (
        losses,
        margin,
        (margin.sign() + 1) / 2,
        errors.policy_w - errors.reference_w,
        errors.policy_l - errors.reference_l,
        (errors.drift_w + errors.drift_l) / 2,
        margin.abs(),
    )
    return torch.cat([torch.stack([row.double().sum() for row in rows]).cpu(), torch.zeros(2, dtype=torch.float64)])


def _apply_gradients(training: Training, config: TrainConfig) -> float:
    """Sum the gradients over processes, clip, step and clear. -> norm before clipping"""
    parameters, accelerator = list(training.parameters.values()), training.accelerator
    if accelerator.num_processes > 1:
        _sum_over_processes(parameters, accelerator)
    norm = accelerator.clip_grad_norm_(parameters, config.optim.max_grad_norm)
    grad_norm = math.nan if norm is None else float(norm)
    # with fp16 the scaler itself skips such a step and lowers its scale
    if accelerator.scaler is None and not math.isfinite(grad_norm):
        raise RunError(
            f"step {training.step + 1}: the gradient is not finite ({grad_norm}). Lower `optim.lr`; "
            "the weights from before this step are kept"
        )
    training.torn = True
    training.optimiser.step()
    training.torn = False
    training.optimiser.zero_grad()
    training.skipped = training.skipped + 1 if accelerator.optimizer_step_was_skipped else 0
    if training.skipped >= _MOST_SKIPPED:
        raise RunError(
            f"step {training.step + 1}: the gradient overflowed fp16 in {training.skipped} steps in a row. "
            "Set `precision` to bf16 or fp32, or lower `optim.lr`"
        )
    return grad_norm


def _sum_over_processes(parameters: list[Parameter], accelerator: Accelerator) -> None:
    """One reduction of one flat vector: a LoRA is small, and the sum does not depend on the packing."""
    grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    flat = accelerator.reduce(torch.cat([g.flatten() for g in grads]), reduction="sum")
    assert isinstance(flat, Tensor)
    for parameter, part in zip(parameters, flat.split([g.numel() for g in grads]), strict=True):
        parameter.grad = part.view_as(parameter).clone()


@contextlib.contextmanager
def _seeded_dropout(config: TrainConfig, training: Training, accelerator: Accelerator) -> Iterator[None]:
    """Dropout draws from torch's global generators: seed them for this step, and restore them afterwards."""
    if config.lora.dropout == 0:
        yield
        return
    device = accelerator.device
    devices = [] if device.type in ("cpu", "mps") else [device.index or 0]
    with torch.random.fork_rng(devices, device_type="cuda" if device.type in ("cpu", "mps") else device.type):
        torch.manual_seed(draws.number(config.seed, "dropout", training.step, accelerator.process_index))
        yield
