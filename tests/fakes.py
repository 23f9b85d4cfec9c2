"""A denoiser of one 1x1 convolution, small enough to follow by hand, and batches for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dspo_train.data.batch import Batch
from dspo_train.models.conditioning import Conditioning
from dspo_train.models.process import Ddpm, from_scheduler_config

SD15_SCHEDULE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def ddpm(prediction: str = "epsilon") -> Ddpm:
    """Stable Diffusion's own noise process."""
    process = from_scheduler_config({**SD15_SCHEDULE, "prediction_type": prediction})
    assert isinstance(process, Ddpm)
    return process


class Bare(Ddpm):
    """Leaves latents and noise as they are, so that a test finds them in a batch as `noisy` and `target`."""

    def sample(self, clean: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return clean, noise


def bare() -> Bare:
    return Bare(ddpm().alphas_cumprod, "epsilon")


class FakeDenoiser:
    """predict(x) = weight * x + delta * x, where delta is the adapter; the reference leaves delta out."""

    reference_is_base = True

    def __init__(self, prediction: str = "epsilon", channels: int = 4, seed: int = 0) -> None:
        self.process = ddpm(prediction)
        generator = torch.Generator().manual_seed(seed)
        self.weight = torch.randn(channels, channels, generator=generator) * 0.3
        self.delta = nn.Parameter(torch.zeros(channels, channels))
        self.active = True

    def predict(self, noisy: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        weight = self.weight + self.delta if self.active else self.weight
        return torch.einsum("oc,nchw->nohw", weight.to(noisy.dtype), noisy)

    @contextmanager
    def reference(self) -> Iterator[None]:
        self.active = False
        try:
            yield
        finally:
            self.active = True

    origin = base = reference


@dataclass(frozen=True)
class Pairs:
    """B pairs before any noise is added: latents (B, C, h, w), one noise and one time for both of a pair."""

    winner: Tensor
    loser: Tensor
    noise: Tensor
    t: Tensor

    def rows(self, start: int, stop: int) -> Pairs:
        return Pairs(self.winner[start:stop], self.loser[start:stop], self.noise[start:stop], self.t[start:stop])

    def batch(self, prediction: str = "epsilon") -> Batch:
        clean, noise = torch.cat([self.winner, self.loser]), self.noise.repeat(2, 1, 1, 1)
        nothing = Conditioning({"context": torch.zeros(len(clean), 4, 8)})
        return Batch.of(ddpm(prediction), clean, noise, self.t.repeat(2), nothing)


def random_pairs(pairs: int = 4, seed: int = 0, channels: int = 4) -> Pairs:
    generator = torch.Generator().manual_seed(seed)

    def draw() -> Tensor:
        return torch.randn(pairs, channels, 8, 8, generator=generator)

    t = torch.randint(1000, (pairs,), generator=generator)
    return Pairs(draw(), draw(), draw(), t)


def random_batch(pairs: int = 4, seed: int = 0, channels: int = 4) -> Batch:
    return random_pairs(pairs, seed, channels).batch()
