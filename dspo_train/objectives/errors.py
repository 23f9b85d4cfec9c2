"""What an objective sees of a model: mean squared errors of each pair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class PairErrors:
    """Mean squared errors per latent element, (B,) float32 each; `_w` winner, `_l` loser.

    Attributes:
        policy_w, policy_l: E, of the policy's prediction against the target.
        reference_w, reference_l: R, of the frozen reference's prediction against the target.
        drift_w, drift_l: q, of the policy's prediction against the reference's.
        cross: mean product of the policy's errors on winner and loser, without gradient; positive if a step away from
            the loser is also a step away from the winner.
    """

    policy_w: Tensor
    policy_l: Tensor
    reference_w: Tensor
    reference_l: Tensor
    drift_w: Tensor
    drift_l: Tensor
    cross: Tensor

    def swapped(self) -> PairErrors:
        """The same pairs with winner and loser swapped."""
        return PairErrors(
            self.policy_l,
            self.policy_w,
            self.reference_l,
            self.reference_w,
            self.drift_l,
            self.drift_w,
            self.cross,
        )

    def map(self, change: Callable[[Tensor], Tensor]) -> PairErrors:
        """Apply one function to every field."""
        return PairErrors(*(change(getattr(self, field.name)) for field in fields(self)))

    @property
    def regret(self) -> Tensor:
        """How much worse the policy ranks each pair than the reference does; negative is progress. (B,)"""
        return (self.policy_w - self.policy_l) - (self.reference_w - self.reference_l)

    @property
    def margin(self) -> Tensor:
        """Implicit reward of the winner over the loser, in units of mean squared error. (B,)"""
        return -self.regret

    def unlearned(self, sharpness: float) -> Tensor:
        """2 sigmoid(-sharpness margin), held constant: 1 if the policy ranks a pair as the reference does, towards 0 as
        the pair is learned, up to 2 as it gets worse. (B,)
        """
        return 2 * torch.sigmoid(-sharpness * self.margin.detach())


def per_sample_mse(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference over everything but the batch axis, in float32 or better. (N, ...) -> (N,)"""
    return (exact(a) - exact(b)).square().flatten(1).mean(1)


def exact(x: Tensor) -> Tensor:
    """In float32, or in the tensor's own type if that is better."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
