"""The parts of a training run's settings: frozen values, checked when made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, get_args

from ..exceptions import ConfigError

Targets = Literal["attention", "attention+mlp", "attention+mlp+proj"]
Schedule = Literal["constant", "linear", "cosine"]
Optimizer = Literal["adamw", "adamw8bit"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Device = Literal["auto", "cpu"]
Crop = Literal["center", "random"]
Method = Literal["lora", "full"]
Labels = Literal["given", "swapped"]
Keep = Literal["last", "best"]
Auto = Literal["auto"]

# Of the settings that a form offers too, see `run_options`; the others' stand where they are checked.
RANGES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "ema": (0.0, 0.99999),
        "moving_reference": (0.0, 0.999999),
        "held_out.share": (0.0, 0.9),
        "held_out.every": (1, 10**7),
        "held_out.patience": (0, 10**6),
        "loss.sft_mix": (0.0, 1e6),
        "loss.label_smoothing": (0.0, 0.499),
        "loss.safeguard": (0.0, 1.0),
        "loss.margin_cap": (0.0, 1e3),
        "loss.sharpness": (1e-6, 1e7),
        "loss.min_snr": (1e-3, 1e6),
        "data.least_noise": (0.0, 0.99),
        "data.most_noise": (0.01, 1.0),
    }
)


@dataclass(frozen=True)
class LoraSpec:
    """Shape of the adapter (Hu et al. 2022): W + (alpha / rank) up @ down on every targeted layer."""

    rank: int = 16
    alpha: float = 16.0
    targets: Targets = "attention"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check("lora.rank", self.rank, 1, 1024)
        check("lora.alpha", self.alpha, 1e-6, 1e6)
        check("lora.dropout", self.dropout, 0.0, 0.9)
        check_choice("lora.targets", self.targets, Targets)


@dataclass(frozen=True)
class OptimSpec:
    """AdamW (Loshchilov & Hutter 2019) and its learning-rate schedule; `warmup` in optimiser steps."""

    name: Optimizer = "adamw"
    lr: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.01
    schedule: Schedule = "constant"
    warmup: int = 0
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        check_choice("optim.name", self.name, Optimizer)
        check_choice("optim.schedule", self.schedule, Schedule)
        check("optim.lr", self.lr, 1e-12, 10.0)
        check("optim.beta1", self.beta1, 0.0, 0.999999)
        check("optim.beta2", self.beta2, 0.0, 0.999999)
        check("optim.eps", self.eps, 1e-16, 1.0)
        check("optim.weight_decay", self.weight_decay, 0.0, 10.0)
        check("optim.warmup", self.warmup, 0, 10**7)
        check("optim.max_grad_norm", self.max_grad_norm, 1e-6, 1e9)


@dataclass(frozen=True)
class DataSpec:
    """How pictures become latents.

    Attributes:
        resolution: side of the square whose area no bucket exceeds, pixels.
        bucket_step: bucket sides are multiples of this many pixels.
        flip: mirror half of the draws, both pictures of a pair alike.
        crop: where the bucket is cut from the picture; `random` draws one place per pair.
        caption_dropout: share of draws whose caption is replaced by the empty one, both pictures alike.
        one_per_prompt: of several pairs with the same prompt only one is used, see `dataset.one_per_prompt`.
        least_noise, most_noise: part of the noise schedule that timesteps are drawn from, 0 clean to 1 noise.
    """

    resolution: int = 512
    bucket_step: int = 64
    flip: bool = False
    crop: Crop = "center"
    caption_dropout: float = 0.0
    one_per_prompt: bool = False
    least_noise: float = 0.0
    most_noise: float = 1.0

    def __post_init__(self) -> None:
        check("data.resolution", self.resolution, 32, 4096)
        check("data.bucket_step", self.bucket_step, 8, 512)
        check("data.caption_dropout", self.caption_dropout, 0.0, 1.0)
        check_choice("data.crop", self.crop, Crop)
        check("data.least_noise", self.least_noise)
        check("data.most_noise", self.most_noise)
        if self.least_noise >= self.most_noise:
            raise ConfigError(
                f"data.least_noise {self.least_noise:g} must be below data.most_noise {self.most_noise:g}; "
                "0 and 1 draw from the whole schedule"
            )
        if self.bucket_step % 8:
            raise ConfigError(f"data.bucket_step must be a multiple of 8 (the VAE's), got {self.bucket_step}")
        if self.resolution < self.bucket_step:
            raise ConfigError(
                f"data.resolution {self.resolution} is smaller than data.bucket_step {self.bucket_step}; "
                "raise the one or lower the other"
            )


@dataclass(frozen=True)
class LossSpec:
    """What is combined with an objective; see `objectives.combine`. The defaults leave it as it is; a `safeguard` or a
    `margin_cap` of 0 is at work, and the strictest.

    Attributes:
        sft_mix: times the winner's error, added (0.25 in OneTrainer).
        label_smoothing: assumed share of wrong labels.
        safeguard: mu of Diffusion-SDPO (2025), 0.2 to 0.9 in its runs.
        margin_cap: pairs beyond this margin, in mean squared error, train no further.
        sharpness: weighs pairs that are already learned down; `auto` follows the run's own margins.
        min_snr: gamma of Hang et al. 2023, weights by timestep; 5 there.
    """

    sft_mix: float = 0.0
    label_smoothing: float = 0.0
    safeguard: float | None = None
    margin_cap: float | None = None
    sharpness: float | Auto | None = None
    min_snr: float | None = None

    def __post_init__(self) -> None:
        check("loss.sft_mix", self.sft_mix)
        check("loss.label_smoothing", self.label_smoothing)
        for name in ("safeguard", "margin_cap", "min_snr"):
            if (value := getattr(self, name)) is not None:
                check(f"loss.{name}", value)
        if isinstance(self.sharpness, str):
            check_choice("loss.sharpness", self.sharpness, Auto)
        elif self.sharpness is not None:
            check("loss.sharpness", self.sharpness)

    @property
    def speaks_of_losers(self) -> tuple[str, ...]:
        """The settings that were given and need an objective with a loser."""
        given = {
            "label_smoothing": self.label_smoothing > 0,
            "safeguard": self.safeguard is not None,
            "margin_cap": self.margin_cap is not None,
            "sharpness": self.sharpness is not None,
        }
        return tuple(name for name, there in given.items() if there)


@dataclass(frozen=True)
class HeldOutSpec:
    """Pairs kept from training, on which a run is measured; see `held_out`.

    Attributes:
        share: of the pairs, by whole prompts; 0 holds none out.
        draws: timesteps and noises that each held-out pair is measured at.
        every: optimiser steps between measurements.
        patience: measurements after the best one, by `held_out.best`, at which the run ends with the weights of the
            best; 0 never.
    """

    share: float = 0.0
    draws: int = 8
    every: int = 25
    patience: int = 0

    def __post_init__(self) -> None:
        check("held_out.share", self.share)
        check("held_out.draws", self.draws, 4, 1000)
        check("held_out.every", self.every)
        check("held_out.patience", self.patience)
        if self.patience and not self.share:
            raise ConfigError("held_out.patience needs pairs to measure on; set held_out.share, for example 0.1")


def check(name: str, value: float, low: float | None = None, high: float | None = None) -> None:
    """Is it in its range, that of `RANGES` where none is given?"""
    if low is None or high is None:
        low, high = RANGES[name]
    if not (math.isfinite(value) and low <= value <= high):
        raise ConfigError(f"{name} must be between {low:g} and {high:g}, got {value!r}")


def check_choice(name: str, value: object, choices: Any) -> None:
    known = get_args(choices)
    if value not in known:
        raise ConfigError(f"{name}: unknown value {value!r}; known: {', '.join(known)}")
