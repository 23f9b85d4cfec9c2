"""Three presets to start from, and changes to them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

from .. import objectives
from ..config import TrainConfig, from_names
from ..config.forms import read_number
from ..exceptions import ConfigError

PresetName = Literal["gentle", "balanced", "strong"]

# By the settings' dotted names, over the defaults of `TrainConfig`.
PAIRED = "dspo"
ON_OWN_STEPS, SHARPNESS = "diffusion_dpo", 10.0  # SPO's loss and its beta
COMMON: Mapping[str, Any] = MappingProxyType(
    {"objective": PAIRED, "batch_size": 1, "accumulate": 4, "optim.schedule": "cosine"}
)
PRESETS: Mapping[PresetName, Mapping[str, Any]] = MappingProxyType(
    {
        "gentle": {
            "objective_args.strength": 10.0,
            "optim.lr": 5e-5,
            "lora.rank": 8,
            "lora.targets": "attention",
        },
        "balanced": {
            "objective_args.strength": 30.0,
            "optim.lr": 1e-4,
            "lora.rank": 16,
            "lora.targets": "attention",
        },
        "strong": {
            "objective_args.strength": 100.0,
            "optim.lr": 2e-4,
            "lora.rank": 32,
            "lora.targets": "attention+mlp",
        },
    }
)
WARM_UP = 0.05  # of the steps
OWN_NUMBER = "objective_value"  # the input for the chosen objective's own number


def configure(
    preset: PresetName, resolution: int, changes: Mapping[str, Any], own_number: float | str = ""
) -> TrainConfig:
    """The settings of a run.

    Args:
        resolution: of the model's published training, pixels.
        changes: values by dotted setting name, which override the preset's.
        own_number: of the objective, see `ObjectiveInfo.own_number`, or a text that stands for it; empty or 0 keeps the
            preset's or the objective's default.

    Raises:
        ConfigError: a value is out of range.
    """
    number = read_number(OWN_NUMBER, own_number, example="10", empty="the usual one")
    if changes.get("objective") == PAIRED and not number:  # the node's default, which is no choice
        changes = {name: value for name, value in changes.items() if name != "objective"}
    changes = {**of_own_steps(changes), **changes}
    values = {**COMMON, **PRESETS[preset], **changes}
    if values["objective"] != COMMON["objective"]:  # the presets' arguments are those of their own objective
        values = {name: value for name, value in values.items() if name in changes or not _is_argument(name)}
    if number:
        values |= _own(values["objective"], number)
    resolution = values.setdefault("data.resolution", resolution)
    steps = values.get("steps", TrainConfig.steps)
    derived = {
        "lora.alpha": values["lora.rank"],
        "optim.warmup": int(WARM_UP * steps),
        "data.bucket_step": min(64, resolution // 8 * 8),
    }
    return from_names({**derived, **values})


def of_own_steps(given: Mapping[str, Any]) -> dict[str, Any]:
    """What a run on its own steps has where nothing else is given, by dotted name; nothing for a run on pairs."""
    if given.get("stepwise.method", "off") == "off" or given.get("objective", ON_OWN_STEPS) != ON_OWN_STEPS:
        return {}
    own = "objective_args.sharpness"
    sharpness = {} if own in given or given.get("loss.sharpness") is not None else {own: SHARPNESS}
    return {"objective": ON_OWN_STEPS, **sharpness}


def _is_argument(name: str) -> bool:
    return name.startswith("objective_args.")


def _own(objective: str, number: float) -> dict[str, float]:
    name = objectives.find_objective(objective).own_number
    if name is None:
        raise ConfigError(
            f"objective {objective!r} has no number of its own, but {OWN_NUMBER} is {number:g}; leave it empty"
        )
    objectives.bind(objective, {name: number})
    return {f"objective_args.{name}": number}
