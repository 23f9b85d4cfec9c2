"""The forward (noising) process of a discrete-time diffusion model and its regression targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ..exceptions import ModelError

PredictionType = Literal["epsilon", "v_prediction"]


@dataclass(frozen=True)
class NoiseProcess:
    """x_t = signal(t) x_0 + spread(t) noise, signal^2 + spread^2 = 1 (DDPM, Ho et al. 2020).

    Attributes:
        alphas_cumprod: signal(t)^2 for t = 0 ... T-1, (T,), float64 on the CPU.
        prediction: what the model predicts: `epsilon` (the noise) or `v_prediction`
            (signal * noise - spread * x_0, Salimans & Ho 2022).
    """

    alphas_cumprod: Tensor
    prediction: PredictionType

    @property
    def steps(self) -> int:
        return self.alphas_cumprod.shape[0]

    def levels(self, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """signal(t) and spread(t), shaped to broadcast over `like` (N, ...). (N,) -> (N, 1, ...)"""
        signal_squared = self.alphas_cumprod[timesteps.cpu()].to(like.device)
        shape = (-1, *[1] * (like.ndim - 1))
        return (
            signal_squared.sqrt().to(like.dtype).view(shape),
            (1 - signal_squared).sqrt().to(like.dtype).view(shape),
        )

    def add(self, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t at each image's own timestep. (N, C, h, w), (N, C, h, w), (N,) -> (N, C, h, w)"""
        signal, spread = self.levels(timesteps, clean)
        return signal * clean + spread * noise

    def target(self, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the model should have predicted for `add(clean, noise, timesteps)`. -> (N, C, h, w)"""
        if self.prediction == "epsilon":
            return noise
        signal, spread = self.levels(timesteps, clean)
        return signal * noise - spread * clean

    def min_snr(self, timesteps: Tensor, gamma: float) -> Tensor:
        """Weights min(snr, gamma) / snr, of v prediction min(snr, gamma) / (snr + 1); snr = (signal / spread)^2.

        Hang et al. 2023, eq. 6 and its table. (N,) -> (N,) float32
        """
        signal_squared = self.alphas_cumprod[timesteps.cpu()]
        snr = signal_squared / (1 - signal_squared)
        other = snr + 1 if self.prediction == "v_prediction" else snr.clamp(min=1e-8)  # zero terminal SNR
        return (snr.clamp(max=gamma) / other).to(timesteps.device, torch.float32)


def from_scheduler_config(config: Mapping[str, Any]) -> NoiseProcess:
    """Read the process from a diffusers `scheduler_config.json`.

    Raises:
        ModelError: a schedule or prediction type that this library does not train.
    """
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
    return NoiseProcess(alphas_cumprod, prediction)


def _zero_terminal_snr(alphas_cumprod: Tensor) -> Tensor:
    """Shift and scale signal(t) so that the last step is pure noise (Lin et al. 2024, algorithm 1)."""
    signal = alphas_cumprod.sqrt()
    return ((signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])).square()
