"""How data become noise, at which noise levels a model is trained, and what it should predict there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from .. import files
from ..exceptions import ModelError
from .families import Prediction

Density = Literal["uniform", "logit-normal"]

MODEL_STEPS = 1000  # flow models take their time multiplied by this


class Process(Protocol):
    """A forward (noising) process. `t` holds its own times, one per image: discrete steps or continuous.

    Positions on the schedule run from 0 (clean) to 1 (noise).
    """

    @property
    def prediction(self) -> Prediction:
        """What the model predicts."""
        ...

    def draw(self, generator: torch.Generator, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Draw a time to train at, from a part of the schedule. -> 0-d"""
        ...

    def draw_evenly(self, generator: torch.Generator, low: float, high: float) -> Tensor:
        """Draw a time to measure at: uniform over a part of the schedule, however training draws. -> 0-d"""
        ...

    def position(self, t: Tensor) -> Tensor:
        """Where on the schedule the times lie. (N,) -> (N,) float64 in [0, 1)"""
        ...

    def sample(self, clean: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """x_t, and what the model should predict for it. (N, C, h, w), (N, C, h, w), (N,) -> (N, C, h, w) twice"""
        ...

    def weight(self, t: Tensor, gamma: float) -> Tensor:
        """min-SNR weights of the squared error of the prediction (Hang et al. 2023). (N,) -> (N,) float32"""
        ...

    def model_time(self, t: Tensor) -> Tensor:
        """The times in the model's own units."""
        ...

    def identity(self) -> dict[str, str]:
        """What distinguishes this process from others; recorded with a run."""
        ...


@dataclass(frozen=True)
class Ddpm:
    """x_t = signal(t) x_0 + spread(t) noise, signal^2 + spread^2 = 1, t = 0 ... T-1 (Ho et al. 2020).

    Attributes:
        alphas_cumprod: signal(t)^2, (T,), float64 on the CPU.
        prediction: `epsilon` (the noise) or `v_prediction` (signal noise - spread x_0, Salimans & Ho 2022).
    """

    alphas_cumprod: Tensor
    prediction: Prediction

    @property
    def steps(self) -> int:
        return self.alphas_cumprod.shape[0]

    def draw(self, generator: torch.Generator, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Uniform over the part, which has at least one step. -> 0-d int64"""
        first = int(low * self.steps)
        return torch.randint(first, max(int(high * self.steps), first + 1), (), generator=generator)

    def draw_evenly(self, generator: torch.Generator, low: float, high: float) -> Tensor:
        """Uniform over the steps whose `position` lies in [low, high). -> 0-d int64"""
        return torch.randint(math.ceil(low * self.steps), math.ceil(high * self.steps), (), generator=generator)

    def position(self, t: Tensor) -> Tensor:
        return t.cpu().double() / self.steps

    def levels(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """signal(t) and spread(t), shaped to broadcast over `like` (N, ...). (N,) -> (N, 1, ...)"""
        signal_squared = self.alphas_cumprod[t.cpu()].to(like.device)
        shape = (-1, *[1] * (like.ndim - 1))
        return (
            signal_squared.sqrt().to(like.dtype).view(shape),
            (1 - signal_squared).sqrt().to(like.dtype).view(shape),
        )

    def sample(self, clean: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        signal, spread = self.levels(t, clean)
        noisy = signal * clean + spread * noise
        return noisy, noise if self.prediction == "epsilon" else signal * noise - spread * clean

    def weight(self, t: Tensor, gamma: float) -> Tensor:
        """min(snr, gamma) / snr, or min(snr, gamma) / (snr + 1) for v; snr = (signal / spread)^2; eq. 6."""
        signal_squared = self.alphas_cumprod[t.cpu()]
        snr = signal_squared / (1 - signal_squared)
        other = snr + 1 if self.prediction == "v_prediction" else snr.clamp(min=1e-8)  # zero terminal SNR
        return (snr.clamp(max=gamma) / other).to(t.device, torch.float32)

    def model_time(self, t: Tensor) -> Tensor:
        return t

    def identity(self) -> dict[str, str]:
        return {"prediction": self.prediction, "schedule": files.digest(*self.alphas_cumprod.tolist())}


@dataclass(frozen=True)
class Flow:
    """x_t = (1 - t) x_0 + t noise, 0 < t < 1; the model predicts the velocity noise - x_0 (rectified flow, Liu et al.
    2023). A position s on the schedule is the time t = shift s / (1 + (shift - 1) s) (Esser et al. 2024, eq. 23).

    Attributes:
        shift: above 1 moves the schedule towards noise, as larger images need.
        density: of the positions to train at: `uniform`, or `logit-normal` (Esser et al. 2024, eq. 19, with mean 0 and
            standard deviation 1), which favours the middle.
    """

    shift: float = 1.0
    density: Density = "logit-normal"

    @property
    def prediction(self) -> Prediction:
        return "flow"

    def draw(self, generator: torch.Generator, low: float = 0.0, high: float = 1.0) -> Tensor:
        """-> 0-d float32"""
        if self.density == "uniform":
            return self.draw_evenly(generator, low, high)
        first, last = (_normal_share(position) for position in (low, high))
        share = first + (last - first) * _inner(generator)
        return self._time(torch.special.ndtri(share).sigmoid())

    def draw_evenly(self, generator: torch.Generator, low: float, high: float) -> Tensor:
        """-> 0-d float32"""
        return self._time(low + (high - low) * _inner(generator))

    def time(self, position: float) -> float:
        """Of a position on the schedule."""
        return self.shift * position / (1 + (self.shift - 1) * position)

    def _time(self, position: Tensor) -> Tensor:
        return (self.shift * position / (1 + (self.shift - 1) * position)).float()

    def position(self, t: Tensor) -> Tensor:
        time = t.cpu().double()
        return time / (self.shift - (self.shift - 1) * time)

    def sample(self, clean: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        time = t.to(clean.device, clean.dtype).view(-1, *[1] * (clean.ndim - 1))
        return (1 - time) * clean + time * noise, noise - clean

    def weight(self, t: Tensor, gamma: float) -> Tensor:
        """t^2 min(snr, gamma), snr = ((1 - t) / t)^2: an error in x_0 is t times the error in the velocity."""
        time = t.double()
        return (time.square() * ((1 - time) / time).square().clamp(max=gamma)).float()

    def model_time(self, t: Tensor) -> Tensor:
        return t * MODEL_STEPS

    def identity(self) -> dict[str, str]:
        return {"prediction": self.prediction, "schedule": files.digest(self.shift, self.density)}


def _normal_share(position: float) -> float:
    """The share of a logit-normal distribution below a position."""
    if position <= 0 or position >= 1:
        return float(position >= 1)
    return 0.5 * (1 + math.erf(math.log(position / (1 - position)) / math.sqrt(2)))


def _inner(generator: torch.Generator) -> Tensor:
    """Uniform inside (0, 1): at either end a flow has no noise, or nothing else. -> 0-d float64"""
    return torch.rand((), generator=generator, dtype=torch.float64) * (1 - 2e-4) + 1e-4


def from_scheduler_config(config: Mapping[str, Any]) -> Process:
    """Read the process from a diffusers `scheduler_config.json`.

    Raises:
        ModelError: the schedule or prediction type is not supported.
    """
    if is_flow(config):
        return _flow(config)
    schedule, prediction = config.get("beta_schedule", "linear"), config.get("prediction_type", "epsilon")
    steps, start, end = config.get("num_train_timesteps", 1000), config["beta_start"], config["beta_end"]
    if prediction not in ("epsilon", "v_prediction"):
        raise ModelError(f"prediction type {prediction!r} is not supported; supported: epsilon, v_prediction")
    if schedule == "scaled_linear":
        betas = torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64).square()
    elif schedule == "linear":
        betas = torch.linspace(start, end, steps, dtype=torch.float64)
    else:
        raise ModelError(f"beta schedule {schedule!r} is not supported; supported: scaled_linear, linear")
    alphas_cumprod = (1 - betas).cumprod(0)
    if config.get("rescale_betas_zero_snr"):
        alphas_cumprod = _zero_terminal_snr(alphas_cumprod)
    return Ddpm(alphas_cumprod, prediction)


def is_flow(config: Mapping[str, Any]) -> bool:
    """Is a diffusers `scheduler_config.json` that of a flow model?"""
    return str(config.get("_class_name", "")).startswith("FlowMatch")


def _flow(config: Mapping[str, Any]) -> Flow:
    if config.get("use_dynamic_shifting"):
        raise ModelError("a flow schedule whose shift depends on the image's size is not supported")
    return Flow(shift=float(config.get("shift", 1.0)))


def _zero_terminal_snr(alphas_cumprod: Tensor) -> Tensor:
    """Shift and scale signal(t) so that the last step is pure noise (Lin et al. 2024, algorithm 1)."""
    signal = alphas_cumprod.sqrt()
    return ((signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])).square()
