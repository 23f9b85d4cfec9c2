"""From a batch to the errors of its pairs: the policy's and the reference's predictions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..data.batch import Batch
from ..models.denoiser import Denoiser
from ..objectives.errors import PairErrors, exact, per_sample_mse


@dataclass(frozen=True)
class Predicted:
    """What policy and reference predict for a batch, winners first, (2B, C, h, w) each."""

    policy: Tensor
    reference: Tensor


def pair_errors(denoiser: Denoiser, batch: Batch, *, loser_gradient: bool = True) -> PairErrors:
    """`errors_of` what is `predicted`."""
    return errors_of(predicted(denoiser, batch, loser_gradient=loser_gradient), batch)


def predicted(denoiser: Denoiser, batch: Batch, *, loser_gradient: bool = True) -> Predicted:
    """Predict winners and losers, as policy and as reference.

    Args:
        loser_gradient: False measures the loser without building a graph, for objectives that do not train on it.
    """
    if batch.twins:
        return _once(denoiser, batch)
    if loser_gradient:
        policy = denoiser.predict(batch.noisy, batch.t, batch.conditioning)
    else:
        policy = _winners_then_losers(denoiser, batch)
    with torch.no_grad(), denoiser.reference():
        reference = denoiser.predict(batch.noisy, batch.t, batch.conditioning)
    return Predicted(policy, reference)


def errors_of(seen: Predicted, batch: Batch) -> PairErrors:
    """The errors of each pair, with the policy's gradient."""
    policy, reference = seen.policy, seen.reference
    policy_w, policy_l = per_sample_mse(policy, batch.target).chunk(2)
    reference_w, reference_l = per_sample_mse(reference, batch.target).chunk(2)
    drift_w, drift_l = per_sample_mse(policy, reference).chunk(2)
    error_w, error_l = (exact(policy.detach()) - exact(batch.target)).chunk(2)
    cross = (error_w * error_l).flatten(1).mean(1)
    errors = PairErrors(policy_w, policy_l, reference_w, reference_l, drift_w, drift_l, cross)
    scale = batch.scale
    return errors if scale is None else errors.map(lambda error: error * scale)


def _once(denoiser: Denoiser, batch: Batch) -> Predicted:
    """Winners and losers are the same states: each is predicted once."""
    rows = slice(len(batch))
    given = batch.noisy[rows], batch.t[rows], batch.conditioning[rows]
    policy = denoiser.predict(*given)
    with torch.no_grad(), denoiser.reference():
        reference = denoiser.predict(*given)
    return Predicted(torch.cat([policy, policy]), torch.cat([reference, reference]))


def _winners_then_losers(denoiser: Denoiser, batch: Batch) -> Tensor:
    winners, losers = slice(len(batch)), slice(len(batch), None)
    policy_w = denoiser.predict(batch.noisy[winners], batch.t[winners], batch.conditioning[winners])
    with torch.no_grad():
        policy_l = denoiser.predict(batch.noisy[losers], batch.t[losers], batch.conditioning[losers])
    return torch.cat([policy_w, policy_l])
