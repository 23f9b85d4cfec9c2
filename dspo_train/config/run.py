"""The settings of a training run: frozen values, checked on construction; unknown keys are refused."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar, get_type_hints

from ..exceptions import ConfigError
from .setting import Setting, SettingGroup, Shown, setting, settings_of
from .specs import DataSpec, Device, HeldOutSpec, Keep, Labels, LoraSpec, LossSpec, Method, OptimSpec, Precision
from .stepwise import StepwiseSpec


@dataclass(frozen=True)
class TrainConfig(SettingGroup):
    """The settings of one run; a step sees batch_size x accumulate x processes pairs."""

    objective: str = setting(
        "dspo",
        "The loss to minimise: dspo by default; diffusion_kto and sft also accept unpaired liked and disliked images; "
        "the others are for comparison.",
        shown=Shown("train", 1, folded=True),
    )
    objective_args: Mapping[str, float] = setting(factory=dict, help="The objective's own numbers, by name.")
    loss: LossSpec = field(default_factory=LossSpec)
    labels: Labels = setting(
        "given",
        "given trains towards the winners; swapped towards the losers, which makes a negative LoRA for the negative "
        "conditioning (Diffusion-NPO, Wang et al. 2025).",
        shown=Shown("options", 0),
    )
    method: Method = setting("lora", "lora trains an adapter; full trains every weight of the UNet.")
    ema: float = setting(
        0.0,
        "Decay per step of a running average of the weights, which is then measured and saved in their place; 0.95 "
        "averages over about 20 steps.",
        0.0,
        0.99999,
        shown=Shown("options", 5, blank=0.0, empty="no average", example="0.95"),
    )
    moving_reference: float = setting(
        0.0,
        "Decay per step with which the reference follows the policy (arXiv 2505.18736), such as 0.999; it cannot be "
        "combined with a LoRA to refine.",
        0.0,
        0.999999,
        shown=Shown("options", 11, blank=0.0, empty="a fixed reference", example="0.999", folded=True),
    )
    steps: int = setting(
        400,
        "Training steps.",
        1,
        10**7,
        shown=Shown("train", 0, high=1_000_000, note="Each sees 4 pairs by default."),
    )
    batch_size: int = setting(
        4,
        "Pairs in one forward pass: more is faster and needs more memory.",
        1,
        4096,
        shown=Shown("train", 6, "pairs_at_once", high=256, folded=True),
    )
    accumulate: int = setting(
        1,
        "Forward passes per step; a step sees this many times the pairs of one pass.",
        1,
        4096,
        shown=Shown("train", 7, folded=True),
    )
    seed: int = setting(
        0,
        "Seed of the LoRA's initial weights, the noise and the order of the pairs.",
        0,
        2**63 - 1,
        shown=Shown("train", 9, "training_seed", high=2**53, folded=True),
    )
    save_every: int = setting(
        50,
        "Steps between checkpoints; may be changed when a run is resumed.",
        1,
        10**7,
        shown=Shown("train", 10, high=100_000, note="Stopping the run writes one too.", folded=True),
    )
    keep_checkpoints: int = setting(
        2, "How many checkpoints stay on disk; may be changed when a run is resumed.", 1, 10**6
    )
    keep: Keep = setting(
        "last",
        "Which weights become the result: last takes those of the last step, best those of the best measurement, "
        "which needs held-out pairs.",
        shown=Shown("options", 1),
    )
    held_out: HeldOutSpec = field(default_factory=HeldOutSpec)
    precision: Precision = setting(
        "auto",
        "auto is the model's own in ComfyUI; elsewhere it is bf16 on CUDA devices that support it, fp16 on the others, "
        "and fp32 without CUDA; LoRA weights are always fp32.",
        shown=Shown("train", 11, folded=True),
    )
    device: Device = setting("auto", "cpu trains on the CPU even if there is a GPU.")
    gradient_checkpointing: bool = setting(
        False, "Saves memory at the cost of one more forward pass per step; may be changed when a run is resumed."
    )
    lora: LoraSpec = field(default_factory=LoraSpec)
    optim: OptimSpec = field(default_factory=OptimSpec)
    data: DataSpec = field(default_factory=DataSpec)
    stepwise: StepwiseSpec = field(default_factory=StepwiseSpec)

    def check_together(self) -> None:
        if self.keep == "best" and not self.held_out.share:
            raise ConfigError("`keep` best needs pairs to measure on; set `held_out.share`, for example 0.1")
        if self.optim.warmup >= self.steps:
            raise ConfigError(
                f"`optim.warmup` {self.optim.warmup} must be shorter than the run's {self.steps} steps, "
                "or the full learning rate is never reached"
            )

    @property
    def keeps_best(self) -> bool:
        """Whether the weights of the best measured step may become the result."""
        return self.keep == "best" or self.held_out.patience > 0

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, from which `from_dict` makes an equal config."""
        return {**dataclasses.asdict(self), "objective_args": dict(self.objective_args)}


def _all(group: type[SettingGroup]) -> Iterator[Setting]:
    """All settings in field order, those of a nested group in its place."""
    own = {declared.key: declared for declared in settings_of(group)}
    hints = get_type_hints(group)
    for one in dataclasses.fields(group):  # type: ignore[arg-type]
        if one.name in own:
            yield own[one.name]
        else:
            yield from _all(hints[one.name])


SETTINGS: Mapping[str, Setting] = MappingProxyType({declared.name: declared for declared in _all(TrainConfig)})


def from_dict(values: Mapping[str, Any]) -> TrainConfig:
    """Build a config from nested mappings, as read from TOML or JSON.

    Raises:
        ConfigError: an unknown key (the nearest known one is named), a wrong type, or a value out of range.
    """
    return _build(TrainConfig, values, "")


def from_names(values: Mapping[str, Any]) -> TrainConfig:
    """Build a config from values by dotted name.

    Raises:
        ConfigError: see `from_dict`.
    """
    return from_dict(nested(values))


def with_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """Complete the nested values that an earlier version wrote: settings that it lacked get their defaults."""
    whole = TrainConfig().to_dict()
    for key, value in values.items():
        group = isinstance(value, Mapping) and isinstance(whole.get(key), dict)
        whole[key] = {**whole[key], **value} if group else value
    return whole


def nested(values: Mapping[str, Any], over: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    """Put values by dotted name over nested ones.

    Raises:
        ConfigError: a name takes a single value for a group.
    """
    merged: dict[str, Any] = {k: dict(v) if isinstance(v, Mapping) else v for k, v in over.items()}
    for name, value in values.items():
        *groups, key = name.split(".")
        inner = merged
        for group in groups:
            inner = inner.setdefault(group, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"{name}: {group!r} is a single value, not a group of settings")
        inner[key] = value
    return merged


def dotted(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values by dotted name; the inverse of `nested`."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{key}": one for key, one in dotted(value).items()}
        else:
            flat[name] = value
    return flat


def with_settings(values: Mapping[str, Any], settings: Mapping[str, str]) -> dict[str, Any]:
    """Put `KEY=VALUE` texts over nested values; KEY is dotted, as in `optim.lr`."""
    return nested({key: _parse(text) for key, text in settings.items()}, values)


def _parse(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


T = TypeVar("T", bound=SettingGroup)


def _build(group: type[T], values: Any, name: str) -> T:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{name or 'config'}: expected a group of settings, got {values!r}")
    own = {declared.key: declared for declared in settings_of(group)}
    hints = get_type_hints(group)
    known = [one.name for one in dataclasses.fields(group)]  # type: ignore[arg-type]
    built = {}
    for key, value in values.items():
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean `{group.prefix}{near[0]}`?" if near else f"known: {', '.join(known)}"
            raise ConfigError(f"unknown setting {group.prefix}{key}; {hint}")
        built[key] = own[key].read(value) if key in own else _build(hints[key], value, key)
    return group(**built)
