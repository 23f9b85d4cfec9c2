"""Options that combine with any objective that has a loser; each is a function of a batch's errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ..config.specs import LossSpec
from .errors import PairErrors

Loss = Callable[[PairErrors], Tensor]


def combine(loss: Loss, spec: LossSpec, *, sharpness: float | None = None) -> Loss:
    """Wrap an objective in a run's options.

    Args:
        sharpness: multiplies each pair's loss by `PairErrors.unlearned`, for objectives that have no sharpness of
            their own.
    """

    def objective(errors: PairErrors) -> Tensor:
        return smoothed(loss, errors, spec.label_smoothing) if spec.label_smoothing else loss(errors)

    def combined(errors: PairErrors) -> Tensor:
        seen = errors
        if spec.margin_cap is not None:
            seen = capped(seen, spec.margin_cap)
        if spec.safeguard is not None:
            seen = safeguarded(objective, seen, spec.safeguard)
        losses = objective(seen)
        if sharpness is not None:
            losses = losses * errors.unlearned(sharpness)
        return losses + spec.sft_mix * errors.policy_w

    return combined


def slope_at_reference(loss: Loss) -> float:
    """How much a pair's loss rises with its winner's error at the reference; 1 where it does not."""
    one, none = torch.ones(1), torch.zeros(1)
    slopes = _slopes(loss, PairErrors(one, one, one, one, none, none, one))
    return abs(slopes[0].item()) or 1.0


def in_unit(loss: Loss, unit: float) -> Loss:
    """The loss of errors measured in this unit, with the gradients' size as before: u L(errors / u)."""
    return lambda errors: unit * loss(errors.map(lambda x: x / unit))


def doubted(loss: Loss, errors: PairErrors, doubt: Tensor, *, has_loser: bool) -> Tensor:
    """The expected loss where a share of each pair's label is believed wrong. (B,), (B,) -> (B,)

    (1 - d) L(w, l) + d L(l, w); for an objective without a loser (1 - 2 d) L, so that a pair of which nothing is known
    counts for nothing.
    """
    if not has_loser:
        return (1 - 2 * doubt) * loss(errors)
    return (1 - doubt) * loss(errors) + doubt * loss(errors.swapped())


def smoothed(loss: Loss, errors: PairErrors, share: float) -> Tensor:
    """The expected loss if a share of the labels is wrong: (1 - s) L(w, l) + s L(l, w). -> (B,)

    For Diffusion-DPO this is conservative DPO (Mitchell 2023).
    """
    return (1 - share) * loss(errors) + share * loss(errors.swapped())


def capped(errors: PairErrors, cap: float) -> PairErrors:
    """Stop the gradients of pairs beyond the cap; for Diffusion-DPO this is the same as clamping the margin there."""
    beyond = errors.margin.detach() > cap
    return errors.map(lambda x: torch.where(beyond, x.detach(), x))


def safeguarded(loss: Loss, errors: PairErrors, mu: float) -> PairErrors:
    """Scale the loser's gradient down until, to first order, a step does not raise the winner's error.

    The safeguard of Diffusion-SDPO (Fu et al. 2025): with g_w and g_l the gradients of the two errors with respect to
    the prediction, the factor is min(1, (1 - mu) |g_w|^2 / <g_w, g_l>) if <g_w, g_l> > 0 and 1 otherwise. The authors
    use one factor per batch; here each pair has its own, so that the packing into passes does not matter. Theirs is for
    a loss with equal slopes in both errors; if an objective's differ, their ratio enters the factor, and a loser that
    is pulled back instead of pushed away is left alone. The guarantee holds for losses of the two errors alone; the
    loser's part of an objective's drift terms is scaled by the same factor.
    """
    winner, loser = _slopes(loss, errors)
    pushed = (errors.cross > 0) & (winner > 0) & (loser < 0)
    room = (1 - mu) * winner * errors.policy_w.detach() / torch.where(pushed, -loser * errors.cross, 1.0)
    factor = torch.where(pushed, room.clamp(max=1), 1.0)

    def scaled(x: Tensor) -> Tensor:
        return factor * x + (1 - factor) * x.detach()

    return replace(errors, policy_l=scaled(errors.policy_l), drift_l=scaled(errors.drift_l))


@torch.enable_grad()
def _slopes(loss: Loss, errors: PairErrors) -> tuple[Tensor, Tensor]:
    """The derivatives of each pair's loss with respect to its winner's and its loser's error. -> (B,), (B,)"""
    alone = errors.map(Tensor.detach)
    alone = replace(alone, policy_w=alone.policy_w.requires_grad_(), policy_l=alone.policy_l.requires_grad_())
    slopes = torch.autograd.grad(loss(alone).sum(), (alone.policy_w, alone.policy_l), materialize_grads=True)
    return slopes[0], slopes[1]
