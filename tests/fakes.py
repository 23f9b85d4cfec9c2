"""A denoiser of one 1x1 convolution, small enough to follow by hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from dspo_train.data.batch import Batch as PairBatch
from dspo_train.models.conditioning import Conditioning
from dspo_train.models.process import Ddpm, from_scheduler_config

SD15_SCHEDULE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


class FakeDenoiser:
    """predict(x) = base * x + delta * x, where delta is the adapter; the reference leaves delta out."""

    def __init__(self, prediction: str = "epsilon", channels: int = 4, seed: int = 0) -> None:
        self.noise: Ddpm = from_scheduler_config({**SD15_SCHEDULE, "prediction_type": prediction})
        generator = torch.Generator().manual_seed(seed)
        self.base = torch.randn(channels, channels, generator=generator) * 0.3
        self.delta = nn.Parameter(torch.zeros(channels, channels))
        self.active = True

    def predict(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        weight = self.base + self.delta if self.active else self.base
        return torch.einsum("oc,nchw->nohw", weight.to(noisy.dtype), noisy)

    @contextmanager
    def reference(self) -> Iterator[None]:
        self.active = False
        try:
            yield
        finally:
            self.active = True

    origin = reference


def random_batch(pairs: int = 4, seed: int = 0, channels: int = 4) -> PairBatch:
    generator = torch.Generator().manual_seed(seed)

    def draw() -> Tensor:
        return torch.randn(pairs, channels, 8, 8, generator=generator)

    timesteps = torch.randint(1000, (pairs,), generator=generator)
    return PairBatch(draw(), draw(), draw(), timesteps, Conditioning(torch.zeros(pairs, 4, 8)))
