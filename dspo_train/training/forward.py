"""What an objective sees of a model: mean squared errors of each pair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..models.conditioning import Conditioning
from ..models.denoiser import Denoiser
from ..objectives.errors import PairErrors, per_sample_mse

# Clean latents (2B, C, h, w), noise (2B, C, h, w), timesteps (2B,) and conditioning of 2B captions.
Stacked = tuple[Tensor, Tensor, Tensor, Conditioning]


class Batch(Protocol):
    """B winners and as many losers, as `pair_errors` takes them; they need not belong together."""

    @property
    def timesteps(self) -> Tensor: ...

    def __len__(self) -> int: ...

    def to(self, device: torch.device | str) -> Batch: ...

    def stacked(self) -> Stacked:
        """Winners before losers."""
        ...


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

    def stacked(self) -> Stacked:
        """Winners before losers, with the same noise, timestep and caption."""
        clean, noise = torch.cat([self.winner, self.loser]), self.noise.repeat(2, 1, 1, 1)
        return clean, noise, self.timesteps.repeat(2), self.conditioning.twice()

    def to(self, device: torch.device | str) -> PairBatch:
        """Move every tensor; the denoiser casts to the precision it works in."""
        return PairBatch(
            self.winner.to(device),
            self.loser.to(device),
            self.noise.to(device),
            self.timesteps.to(device),
            self.conditioning.to(device, self.conditioning.context.dtype),
        )


def pair_errors(denoiser: Denoiser, batch: Batch, *, loser_gradient: bool = True) -> PairErrors:
    """Predict winners and losers, as policy and as reference.

    Args:
        loser_gradient: False measures the loser without building its graph, for objectives that ignore it.
    """
    clean, noise, timesteps, conditioning = batch.stacked()
    noisy = denoiser.noise.add(clean, noise, timesteps)
    target = denoiser.noise.target(clean, noise, timesteps)
    if loser_gradient:
        policy = denoiser.predict(noisy, timesteps, conditioning)
    else:
        policy = _winners_then_losers(denoiser, noisy, timesteps, conditioning)
    with torch.no_grad(), denoiser.reference():
        reference = denoiser.predict(noisy, timesteps, conditioning)
    policy_w, policy_l = per_sample_mse(policy, target).chunk(2)
    reference_w, reference_l = per_sample_mse(reference, target).chunk(2)
    drift_w, drift_l = per_sample_mse(policy, reference).chunk(2)
    error_w, error_l = (policy.detach().float() - target.float()).chunk(2)
    cross = (error_w * error_l).flatten(1).mean(1)
    return PairErrors(policy_w, policy_l, reference_w, reference_l, drift_w, drift_l, cross)


def _winners_then_losers(denoiser: Denoiser, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
    half = len(noisy) // 2
    winners = denoiser.predict(noisy[:half], timesteps[:half], conditioning[:half])
    with torch.no_grad():
        losers = denoiser.predict(noisy[half:], timesteps[half:], conditioning[half:])
    return torch.cat([winners, losers])
