"""Settings of a training run: frozen values, checked when made, unknown keys refused."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from .exceptions import ConfigError

Targets = Literal["attention", "attention+mlp", "attention+mlp+proj"]
Schedule = Literal["constant", "linear", "cosine"]
Optimizer = Literal["adamw", "adamw8bit"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Device = Literal["auto", "cpu"]
Crop = Literal["center", "random"]


@dataclass(frozen=True)
class LoraSpec:
    """Shape of the adapter (Hu et al. 2022): W + (alpha / rank) up @ down on every targeted layer."""

    rank: int = 16
    alpha: float = 16.0
    targets: Targets = "attention"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _check("lora.rank", self.rank, 1, 1024)
        _check("lora.alpha", self.alpha, 1e-6, 1e6)
        _check("lora.dropout", self.dropout, 0.0, 0.9)
        _check_choice("lora.targets", self.targets, Targets)


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
        _check_choice("optim.name", self.name, Optimizer)
        _check_choice("optim.schedule", self.schedule, Schedule)
        _check("optim.lr", self.lr, 1e-12, 10.0)
        _check("optim.beta1", self.beta1, 0.0, 0.999999)
        _check("optim.beta2", self.beta2, 0.0, 0.999999)
        _check("optim.eps", self.eps, 1e-16, 1.0)
        _check("optim.weight_decay", self.weight_decay, 0.0, 10.0)
        _check("optim.warmup", self.warmup, 0, 10**7)
        _check("optim.max_grad_norm", self.max_grad_norm, 1e-6, 1e9)


@dataclass(frozen=True)
class DataSpec:
    """How pictures become latents.

    Attributes:
        resolution: side of the square whose area no bucket exceeds, pixels.
        bucket_step: bucket sides are multiples of this many pixels.
        flip: mirror half of the draws, both pictures of a pair alike.
        crop: where the bucket is cut from the picture; `random` draws one place per pair.
        caption_dropout: share of draws whose caption is replaced by the empty one, both pictures alike.
    """

    resolution: int = 512
    bucket_step: int = 64
    flip: bool = False
    crop: Crop = "center"
    caption_dropout: float = 0.0

    def __post_init__(self) -> None:
        _check("data.resolution", self.resolution, 32, 4096)
        _check("data.bucket_step", self.bucket_step, 8, 512)
        _check("data.caption_dropout", self.caption_dropout, 0.0, 1.0)
        _check_choice("data.crop", self.crop, Crop)
        if self.bucket_step % 8:
            raise ConfigError(f"data.bucket_step must be a multiple of 8 (the VAE's), got {self.bucket_step}")
        if self.resolution < self.bucket_step:
            raise ConfigError(
                f"data.resolution {self.resolution} is smaller than data.bucket_step {self.bucket_step}; "
                "raise the one or lower the other"
            )


@dataclass(frozen=True)
class TrainConfig:
    """One run. `batch_size` counts pairs per process and forward pass; a step sees
    batch_size x accumulate x processes pairs.
    """

    objective: str = "dspo"
    objective_args: Mapping[str, float] = field(default_factory=dict)
    steps: int = 400
    batch_size: int = 4
    accumulate: int = 1
    seed: int = 0
    save_every: int = 50
    keep_checkpoints: int = 2
    precision: Precision = "auto"
    device: Device = "auto"
    gradient_checkpointing: bool = False
    lora: LoraSpec = field(default_factory=LoraSpec)
    optim: OptimSpec = field(default_factory=OptimSpec)
    data: DataSpec = field(default_factory=DataSpec)

    def __post_init__(self) -> None:
        _check("steps", self.steps, 1, 10**7)
        _check("batch_size", self.batch_size, 1, 4096)
        _check("accumulate", self.accumulate, 1, 4096)
        _check("seed", self.seed, 0, 2**63 - 1)
        _check("save_every", self.save_every, 1, 10**7)
        _check("keep_checkpoints", self.keep_checkpoints, 1, 10**6)
        _check_choice("precision", self.precision, Precision)
        _check_choice("device", self.device, Device)
        if self.optim.warmup >= self.steps:
            raise ConfigError(
                f"optim.warmup {self.optim.warmup} must be shorter than the run's {self.steps} steps, "
                "or the full learning rate is never reached"
            )

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values; `from_dict` of it is equal to this."""
        return {**dataclasses.asdict(self), "objective_args": dict(self.objective_args)}


def from_dict(values: Mapping[str, Any]) -> TrainConfig:
    """Build a config from nested mappings, as TOML or JSON give them.

    Raises:
        ConfigError: an unknown key (the nearest known one is named), a wrong type, a value out of range.
    """
    return _build(TrainConfig, values, "")


def with_settings(values: Mapping[str, Any], settings: Mapping[str, str]) -> dict[str, Any]:
    """Lay `KEY=VALUE` texts over nested values; KEY is dotted, as in `optim.lr`."""
    merged: dict[str, Any] = {k: dict(v) if isinstance(v, Mapping) else v for k, v in values.items()}
    for key, text in settings.items():
        *groups, name = key.split(".")
        inner = merged
        for group in groups:
            inner = inner.setdefault(group, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"--set {key}: {group!r} is a single value, not a group of settings")
        inner[name] = _parse(text)
    return merged


def _parse(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


T = TypeVar("T")


def _build(cls: type[T], values: Any, prefix: str) -> T:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{prefix.rstrip('.') or 'config'}: expected a group of settings, got {values!r}")
    hints = get_type_hints(cls)
    for key in values:
        if key not in hints:
            near = difflib.get_close_matches(str(key), hints, n=1)
            hint = f"; did you mean {prefix}{near[0]}?" if near else f"; known: {', '.join(hints)}"
            raise ConfigError(f"unknown setting {prefix}{key}{hint}")
    return cls(**{key: _coerce(hints[key], value, prefix + key) for key, value in values.items()})


def _coerce(kind: Any, value: Any, name: str) -> Any:
    """Accept exactly what a setting means: no strings for numbers, no fractions for counts."""
    if dataclasses.is_dataclass(kind):
        return _build(kind, value, name + ".")  # type: ignore[arg-type]
    if get_origin(kind) is Literal:
        return value
    if kind is bool and isinstance(value, bool):
        return value
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if kind is int and not isinstance(value, bool):
        if isinstance(value, int):
            return value
        if isinstance(value, float) and value.is_integer():
            return int(value)
    if kind is str and isinstance(value, str):
        return value
    if get_origin(kind) is not None and isinstance(value, Mapping):
        return {str(k): _coerce(float, v, f"{name}.{k}") for k, v in value.items()}
    wanted = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    raise ConfigError(f"{name}: expected {wanted.get(kind, 'a group of numbers')}, got {value!r}")


def _check(name: str, value: float, low: float, high: float) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise ConfigError(f"{name} must be between {low:g} and {high:g}, got {value!r}")


def _check_choice(name: str, value: object, choices: Any) -> None:
    known = get_args(choices)
    if value not in known:
        raise ConfigError(f"{name}: unknown value {value!r}; known: {', '.join(known)}")
