"""One network read as three kinds of model: their errors have other sizes, and mean the same.

The embedded network predicts v. Exactly the same network predicts the noise, or the velocity of a straight flow, once
its answer is rewritten: the squared error in the noise is signal^2 times that in v, and in the velocity up to twice
that in v. So a setting in absolute units means another thing to each of them, and its times are drawn otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dspo_train.config import TrainConfig
from dspo_train.demo.run import MODEL
from dspo_train.models.base import Base
from dspo_train.models.conditioning import Conditioning
from dspo_train.models.process import Ddpm, Flow, Process
from dspo_train.models.unet import predict
from dspo_train.runs.diffusers_model import DiffusersModel, DiffusersSource


class AsNoise(DiffusersModel):
    """noise = spread x_t + signal v."""

    def __init__(self, base: Base, device: torch.device, path: Path) -> None:
        super().__init__(base, device, path)
        self.own = _of_v(base)
        self.read = Ddpm(self.own.alphas_cumprod, "epsilon")

    @property
    def process(self) -> Process:
        return self.read

    def predict(self, noisy: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        v = predict(self.base.family, self.base.unet, noisy, t, conditioning)
        signal, spread = self.own.levels(t, noisy)
        return spread * noisy + signal * v


class AsFlow(DiffusersModel):
    """velocity = noise - x0 at x_t = (1 - t) x0 + t noise."""

    def __init__(self, base: Base, device: torch.device, path: Path) -> None:
        super().__init__(base, device, path)
        alphas = _of_v(base).alphas_cumprod
        signal, spread = alphas.sqrt(), (1 - alphas).sqrt()
        self.times = (spread / (signal + spread)).float()  # of the network's steps, ascending
        self.read = Flow()

    @property
    def process(self) -> Process:
        return self.read

    def predict(self, noisy: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        time = t.float().clamp(self.times[0].item(), self.times[-1].item())
        upper = torch.searchsorted(self.times, time).clamp(1, len(self.times) - 1)
        before, after = self.times[upper - 1], self.times[upper]
        step = upper - 1 + (time - before) / (after - before)
        shape = (-1, *[1] * (noisy.ndim - 1))
        clean, dirty = (1 - time).view(shape), time.view(shape)
        size = (clean**2 + dirty**2).sqrt()
        mixed = noisy / size
        v = predict(self.base.family, self.base.unet, mixed, step, conditioning)
        return ((dirty - clean) * mixed + (clean + dirty) * v) / size


def _of_v(base: Base) -> Ddpm:
    assert isinstance(base.process, Ddpm) and base.process.prediction == "v_prediction"
    return base.process


@dataclass(frozen=True)
class RereadSource:
    """Implements `ModelSource`."""

    kind: type[DiffusersModel]

    def load(self, config: TrainConfig, precision: str, device: torch.device) -> DiffusersModel:
        loaded = DiffusersSource(MODEL).load(config, precision, device)
        return self.kind(loaded.base, device, MODEL)


KINDS: dict[str, type[DiffusersModel]] = {"v": DiffusersModel, "noise": AsNoise, "flow": AsFlow}
