"""Measuring a run on pairs that are held out from its training, at the fixed draws of a bank."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, fields
from statistics import stdev
from typing import Any

import torch
from torch import Tensor

from ..data.bank import QUARTERS, Bank
from ..data.batch import Batch
from ..models.denoiser import Denoiser
from ..objectives.errors import per_sample_mse

Autocast = Callable[..., AbstractContextManager[Any]]

_KEPT = 512 * 2**20  # bytes of predictions: about 2000 draws of SDXL at 1024 px in 16 bits, or 8000 of SD 1.5 at 512
_PREFIX = "held_out_"


@dataclass(frozen=True)
class Quarter:
    """Means over the draws of one quarter of the schedule, from the least noise to the most; NaN where there are none.

    Attributes: see `HeldOut`.
    """

    margin: float
    accuracy: float
    winner_change: float
    loser_change: float
    drift: float


@dataclass(frozen=True)
class HeldOut:
    """What a bank showed: means over all draws of all pairs, against the model as it was before any training.

    Attributes:
        margin: implicit reward of winners over losers, mean squared error; its size says little, see `best`.
        accuracy: share of draws with a positive margin, ties at one half.
        accuracy_error: its standard error over pairs; NaN for a single pair.
        pair_accuracy: share of pairs whose mean margin is positive, ties at one half. It follows the few times
            with large errors.
        winner_change, loser_change: error minus that before training; negative is better prediction.
        drift: mean squared distance to the predictions before training.
        quarters: the same by quarter of the schedule.
        pairs, draws: how many pairs, and draws of each, were measured.
    """

    margin: float
    accuracy: float
    winner_change: float
    loser_change: float
    drift: float
    accuracy_error: float
    pair_accuracy: float
    quarters: tuple[Quarter, Quarter, Quarter, Quarter]
    pairs: int
    draws: int


@torch.no_grad()
def origin_predictions(
    denoiser: Denoiser, bank: Bank, device: torch.device | str, autocast: Autocast = nullcontext, most: int = _KEPT
) -> tuple[Tensor, ...]:
    """What the untrained model predicts for the first batches of a bank: they never change, so `measure` may have them.

    Args:
        most: bytes of ordinary memory to fill; batches beyond are left out.
    """
    kept, size = [], 0
    with denoiser.origin():  # once: for a model trained in full it moves all weights
        for batch in bank.batches():
            kept.append(_predict(denoiser, batch.to(device), autocast).cpu())
            size += kept[-1].nbytes
            if size > most:
                return tuple(kept[:-1])
    return tuple(kept)


@torch.no_grad()
def measure(
    denoiser: Denoiser,
    bank: Bank,
    device: torch.device | str,
    autocast: Autocast = nullcontext,
    origin: Sequence[Tensor] = (),
) -> HeldOut:
    """Measure the policy on a bank. Not to be called inside another autocast.

    Args:
        autocast: gives the context that predictions are made in.
        origin: `origin_predictions` of the same bank; batches that it lacks are predicted anew. Figures are the same.
    """
    rows = []
    for number, batch in enumerate(bank.batches()):
        batch = batch.to(device)
        policy = _predict(denoiser, batch, autocast)
        if number < len(origin):
            before = origin[number].to(policy.device)
        else:
            with denoiser.origin():
                before = _predict(denoiser, batch, autocast)
        rows.append(_changes(bank, batch, policy, before))
    return _summed_up(torch.cat(rows, dim=1), bank)


def _predict(denoiser: Denoiser, batch: Batch, autocast: Autocast) -> Tensor:
    """Winners' predictions and then losers', (2B, C, h, w).

    An autocast of its own for every call: one that lasts keeps casts of trained weights, and would answer for the
    untrained model with the trained one's where both are the same tensors.
    """
    with autocast():
        return denoiser.predict(batch.noisy, batch.t, batch.conditioning)


def _changes(bank: Bank, batch: Batch, policy: Tensor, before: Tensor) -> Tensor:
    """Winner's and loser's change of error, their drift, and the quarter of each draw. -> (4, B) float64, on the CPU"""
    compared = ((policy, batch.target), (before, batch.target), (policy, before))
    after, was, drift = (per_sample_mse(a, b).cpu().double() for a, b in compared)
    winner, loser = (after - was).chunk(2)
    return torch.stack([winner, loser, drift.view(2, -1).mean(0), bank.quarters(batch).double()])


def _summed_up(table: Tensor, bank: Bank) -> HeldOut:
    """The figures of (winner's change, loser's change, drift, quarter) by draws. (4, pairs x draws)"""
    quarter = table[3].long()
    margins = (table[1] - table[0]).view(-1, bank.draws).tolist()
    by_pair = [_mean(map(_ranked_right, of_pair)) for of_pair in margins]
    return HeldOut(
        **asdict(_means(table)),
        accuracy_error=stdev(by_pair) / math.sqrt(len(by_pair)) if len(by_pair) > 1 else math.nan,
        pair_accuracy=_mean(map(_ranked_right, map(_mean, margins))),
        quarters=tuple(_means(table[:, quarter == number]) for number in range(QUARTERS)),  # type: ignore[arg-type]
        pairs=len(by_pair),
        draws=bank.draws,
    )


def _means(table: Tensor) -> Quarter:
    winner, loser, drift = table[:3].tolist()
    margins = (table[1] - table[0]).tolist()
    return Quarter(_mean(margins), _mean(map(_ranked_right, margins)), _mean(winner), _mean(loser), _mean(drift))


def _ranked_right(margin: float) -> float:
    """1 for a positive margin, one half for none; a margin that is not a number ranks nothing right."""
    return 1.0 if margin > 0 else 0.5 if margin == 0 else 0.0


def _mean(values: Iterable[float]) -> float:
    """Summed without rounding, so that order and packing leave it as it is."""
    found = list(values)
    usable = found and all(map(math.isfinite, found))
    return math.fsum(found) / len(found) if usable else math.nan


def to_report(held: HeldOut) -> dict[str, Any]:
    """Flat, for a line of reports: `held_out_margin`, ..., `held_out_quarters` with four mappings."""
    return {_PREFIX + name: list(v) if isinstance(v, tuple) else v for name, v in asdict(held).items()}


def from_report(report: Mapping[str, Any]) -> HeldOut | None:
    """What `to_report` gave; None for a report without a measurement."""
    if report.get(_PREFIX + "accuracy") is None:
        return None
    values = {field.name: report[_PREFIX + field.name] for field in fields(HeldOut)}
    return HeldOut(**{**values, "quarters": tuple(Quarter(**quarter) for quarter in values["quarters"])})
