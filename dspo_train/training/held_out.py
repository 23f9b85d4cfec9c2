"""Measure a run on pairs held out from its training, at the fixed draws of a bank."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from statistics import stdev
from typing import Any

import torch
from torch import Tensor

from ..data.bank import QUARTERS, Bank
from ..data.batch import Batch
from ..models.denoiser import Denoiser
from ..objectives.errors import per_sample_mse

_KEPT = 512 * 2**20  # bytes of predictions: about 2000 draws of SDXL at 1024 px in 16 bits, or 8000 of SD 1.5 at 512
_PREFIX = "held_out_"


@dataclass(frozen=True)
class Quarter:
    """Means over the draws in one quarter of the schedule; NaN if there are none. Attributes as in `HeldOut`."""

    margin: float
    accuracy: float
    winner_change: float
    loser_change: float
    drift: float


@dataclass(frozen=True)
class HeldOut:
    """A measurement on a bank: means over all draws of all pairs, relative to the model before any training.

    Attributes:
        margin: implicit reward of winners over losers, mean squared error; its size says little, see `choosing.best`.
        accuracy: share of draws with a positive margin, ties counted as one half.
        accuracy_error: its standard error over pairs; NaN for a single pair.
        pair_accuracy: share of pairs whose mean margin is positive, ties counted as one half. The few times with large
            errors dominate it.
        winner_change, loser_change: error minus that before training; negative is better prediction.
        drift: mean squared distance to the predictions before training.
        quarters: the same by quarter of the schedule, from the least noise to the most.
        pairs, draws: number of pairs, and of draws per pair.
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
    denoiser: Denoiser, bank: Bank, device: torch.device | str, most: int = _KEPT
) -> tuple[Tensor, ...]:
    """The untrained model's predictions for the first batches of a bank. They never change; `measure` can reuse them.

    Args:
        most: bytes of host memory to fill; further batches are left out.
    """
    kept, size = [], 0
    with denoiser.origin():  # once: for a model trained in full it moves all weights
        for batch in bank.batches():
            kept.append(_predict(denoiser, batch.to(device)).cpu())
            size += kept[-1].nbytes
            if size > most:
                return tuple(kept[:-1])
    return tuple(kept)


@torch.no_grad()
def measure(
    denoiser: Denoiser,
    bank: Bank,
    device: torch.device | str,
    origin: Sequence[Tensor] = (),
) -> HeldOut:
    """Measure the policy on a bank.

    Args:
        origin: `origin_predictions` of the same bank; batches that it lacks are predicted again, with the same result.
    """
    rows = []
    for number, batch in enumerate(bank.batches()):
        batch = batch.to(device)
        policy = _predict(denoiser, batch)
        if number < len(origin):
            before = origin[number].to(policy.device)
        else:
            with denoiser.origin():
                before = _predict(denoiser, batch)
        rows.append(_changes(bank, batch, policy, before))
    return _summed_up(torch.cat(rows, dim=1), bank)


def _predict(denoiser: Denoiser, batch: Batch) -> Tensor:
    """Winners' predictions and then losers', (2B, C, h, w)."""
    return denoiser.predict(batch.noisy, batch.t, batch.conditioning)


def _changes(bank: Bank, batch: Batch, policy: Tensor, before: Tensor) -> Tensor:
    """Winner's and loser's change in error, drift, and quarter of each draw. -> (4, B) float64, on the CPU"""
    compared = ((policy, batch.target), (before, batch.target), (policy, before))
    after, was, drift = (per_sample_mse(a, b).cpu().double() for a, b in compared)
    winner, loser = (after - was).chunk(2)
    return torch.stack([winner, loser, drift.view(2, -1).mean(0), bank.quarters(batch).double()])


def _summed_up(table: Tensor, bank: Bank) -> HeldOut:
    """Summarise (winner's change, loser's change, drift, quarter) of every draw, (4, pairs x draws)."""
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
    """1 for a positive margin, one half for zero; 0 otherwise, also for NaN."""
    return 1.0 if margin > 0 else 0.5 if margin == 0 else 0.0


def _mean(values: Iterable[float]) -> float:
    """Summed without rounding, so that order and packing do not matter; NaN if a value is not finite."""
    found = list(values)
    usable = found and all(map(math.isfinite, found))
    return math.fsum(found) / len(found) if usable else math.nan


def to_report(held: HeldOut) -> dict[str, Any]:
    """The figures on one level, for a line of reports: `held_out_margin`, ..., `held_out_quarters` (four mappings)."""
    return {_PREFIX + name: list(v) if isinstance(v, tuple) else v for name, v in asdict(held).items()}


def from_report(report: Mapping[str, Any]) -> HeldOut | None:
    """The inverse of `to_report`; None for a report without a measurement."""
    if report.get(_PREFIX + "accuracy") is None:
        return None
    values = {field.name: report[_PREFIX + field.name] for field in fields(HeldOut)}
    return HeldOut(**{**values, "quarters": tuple(Quarter(**quarter) for quarter in values["quarters"])})
