"""Settings of a training run: frozen values, checked when made, unknown keys refused."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ..exceptions import ConfigError
from .specs import (
    Crop,
    DataSpec,
    Device,
    HeldOutSpec,
    Keep,
    Labels,
    LoraSpec,
    LossSpec,
    Method,
    Optimizer,
    OptimSpec,
    Precision,
    Schedule,
    Targets,
    check,
    check_choice,
)

__all__ = [
    "Crop",
    "DataSpec",
    "Device",
    "HeldOutSpec",
    "Keep",
    "Labels",
    "LoraSpec",
    "LossSpec",
    "Method",
    "OptimSpec",
    "Optimizer",
    "Precision",
    "Schedule",
    "Targets",
    "TrainConfig",
    "from_dict",
    "with_settings",
]


@dataclass(frozen=True)
class TrainConfig:
    """One run.

    Attributes:
        labels: `swapped` trains on the losers as winners: a negative LoRA, for the unconditional branch of
            classifier-free guidance (Diffusion-NPO, Wang et al., ICLR 2025).
        method: `full` trains every weight of the UNet.
        ema: decay a step of the average of the weights that is measured and saved; 0 takes the weights as they are.
        moving_reference: decay a step with which the reference follows the policy (arXiv 2505.18736); 0 keeps it.
        batch_size: pairs per process and forward pass; a step sees batch_size x accumulate x processes pairs.
        keep: which weights become the result: of the last step, or of the best one by `held_out.best`. A run that stops
            early keeps the best.
    """

    objective: str = "dspo"
    objective_args: Mapping[str, float] = field(default_factory=dict)
    loss: LossSpec = field(default_factory=LossSpec)
    labels: Labels = "given"
    method: Method = "lora"
    ema: float = 0.0
    moving_reference: float = 0.0
    steps: int = 400
    batch_size: int = 4
    accumulate: int = 1
    seed: int = 0
    save_every: int = 50
    keep_checkpoints: int = 2
    keep: Keep = "last"
    held_out: HeldOutSpec = field(default_factory=HeldOutSpec)
    precision: Precision = "auto"
    device: Device = "auto"
    gradient_checkpointing: bool = False
    lora: LoraSpec = field(default_factory=LoraSpec)
    optim: OptimSpec = field(default_factory=OptimSpec)
    data: DataSpec = field(default_factory=DataSpec)

    def __post_init__(self) -> None:
        check("steps", self.steps, 1, 10**7)
        check("batch_size", self.batch_size, 1, 4096)
        check("accumulate", self.accumulate, 1, 4096)
        check("seed", self.seed, 0, 2**63 - 1)
        check("save_every", self.save_every, 1, 10**7)
        check("keep_checkpoints", self.keep_checkpoints, 1, 10**6)
        check("ema", self.ema)
        check("moving_reference", self.moving_reference)
        check_choice("labels", self.labels, Labels)
        check_choice("method", self.method, Method)
        check_choice("keep", self.keep, Keep)
        if self.keep == "best" and not self.held_out.share:
            raise ConfigError("keep best needs pairs to measure on; set held_out.share, for example 0.1")
        check_choice("precision", self.precision, Precision)
        check_choice("device", self.device, Device)
        if self.optim.warmup >= self.steps:
            raise ConfigError(
                f"optim.warmup {self.optim.warmup} must be shorter than the run's {self.steps} steps, "
                "or the full learning rate is never reached"
            )

    @property
    def keeps_best(self) -> bool:
        """May the weights of the best measured step become the result?"""
        return self.keep == "best" or self.held_out.patience > 0

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
                raise ConfigError(f"{key}: {group!r} is a single value, not a group of settings")
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
    if get_origin(kind) in (Union, UnionType):  # `float | None`: nothing is nothing, a text is one of the choices
        if value is None:
            return value
        rest = [
            k for k in get_args(kind) if k is not type(None) and (get_origin(k) is Literal) == isinstance(value, str)
        ]
        return _coerce(rest[0] if rest else get_args(kind)[0], value, name)
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
