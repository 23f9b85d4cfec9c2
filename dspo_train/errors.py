"""What an objective sees of a model: six mean squared errors per pair."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .conditioning import Conditioning
from .denoiser import Denoiser


@dataclass(frozen=True)
class PairBatch:
    """Pairs of one shape, with the randomness of this step already drawn, so that a loss is a function.

    Attributes:
        winner, loser: clean latents in model units, (B, C, h, w) each.
        noise: one draw per pair, shared by winner and loser, (B, C, h, w).
        timesteps: likewise, (B,) int64.
        conditioning: of B captions.
    """

    winner: Tensor
    loser: Tensor
    noise: Tensor
    timesteps: Tensor
    conditioning: Conditioning

    def __len__(self) -> int:
        return self.winner.shape[0]

    def to(self, device: torch.device | str) -> PairBatch:
        """Move every tensor; the denoiser casts to the precision it works in."""
        return PairBatch(
            self.winner.to(device),
            self.loser.to(device),
            self.noise.to(device),
            self.timesteps.to(device),
            self.conditioning.to(device, self.conditioning.context.dtype),
        )


@dataclass(frozen=True)
class PairErrors:
    """Mean squared errors per latent element, (B,) float32 each; `_w` winner, `_l` loser.

    Attributes:
        policy_w, policy_l: E, of the policy's prediction against the target.
        reference_w, reference_l: R, of the frozen reference's prediction against the target.
        drift_w, drift_l: q, of the policy's prediction against the reference's.
    """

    policy_w: Tensor
    policy_l: Tensor
    reference_w: Tensor
    reference_l: Tensor
    drift_w: Tensor
    drift_l: Tensor

    @property
    def regret(self) -> Tensor:
        """How much worse the policy ranks each pair than the reference does; negative is progress. (B,)"""
        return (self.policy_w - self.policy_l) - (self.reference_w - self.reference_l)

    @property
    def margin(self) -> Tensor:
        """Implicit reward of the winner over the loser, in units of mean squared error. (B,)"""
        return -self.regret


def per_sample_mse(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference over everything but the batch axis, in float32. (N, ...) -> (N,)"""
    return (a.float() - b.float()).square().flatten(1).mean(1)


def pair_errors(denoiser: Denoiser, batch: PairBatch, *, loser_gradient: bool = True) -> PairErrors:
    """Predict winners and losers at the same noise and timestep, as policy and as reference.

    Args:
        loser_gradient: False measures the loser without building its graph, for objectives that ignore it.
    """
    timesteps, conditioning = batch.timesteps.repeat(2), batch.conditioning.twice()  # 2B
    clean, noise = torch.cat([batch.winner, batch.loser]), batch.noise.repeat(2, 1, 1, 1)  # (2B, C, h, w)
    noisy = denoiser.noise.add(clean, noise, timesteps)
    target = denoiser.noise.target(clean, noise, timesteps)
    if loser_gradient:
        policy = denoiser.predict(noisy, timesteps, conditioning)
    else:
        pairs = len(batch)
        winners = denoiser.predict(noisy[:pairs], batch.timesteps, batch.conditioning)
        with torch.no_grad():
            losers = denoiser.predict(noisy[pairs:], batch.timesteps, batch.conditioning)
        policy = torch.cat([winners, losers])
    with torch.no_grad(), denoiser.reference():
        reference = denoiser.predict(noisy, timesteps, conditioning)
    policy_w, policy_l = per_sample_mse(policy, target).chunk(2)
    reference_w, reference_l = per_sample_mse(reference, target).chunk(2)
    drift_w, drift_l = per_sample_mse(policy, reference).chunk(2)
    return PairErrors(policy_w, policy_l, reference_w, reference_l, drift_w, drift_l)
