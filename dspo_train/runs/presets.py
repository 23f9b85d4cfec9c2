"""Three settings to begin with, what stands behind each name, and a person's changes to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from .. import objectives
from ..config import Device, Precision, Targets, TrainConfig, from_dict
from ..config.options import PLAIN, Options
from ..exceptions import ConfigError

if TYPE_CHECKING:
    from ..models.families import Family

PresetName = Literal["gentle", "balanced", "strong"]


@dataclass(frozen=True)
class Preset:
    """Values that belong together; `strength` is the `dspo` objective's: how far past the base its target lies."""

    strength: float
    lr: float
    rank: int
    targets: Targets


PRESETS: Mapping[PresetName, Preset] = MappingProxyType(
    {
        "gentle": Preset(strength=10.0, lr=5e-5, rank=8, targets="attention"),
        "balanced": Preset(strength=30.0, lr=1e-4, rank=16, targets="attention"),
        "strong": Preset(strength=100.0, lr=2e-4, rank=32, targets="attention+mlp"),
    }
)
WARM_UP = 0.05  # of the steps

# The argument that `value` means, for the objectives that have one.
ARGUMENT: Mapping[str, str] = MappingProxyType(
    {
        "dspo": "strength",
        "dspo_paper": "beta",
        "dspo_implicit": "pull",
        "dspo_e": "pull",
        "dspo_ref": "sharpness",
        "dspo_sdxl": "beta",
        "diffusion_dpo": "sharpness",
        "ipo": "tau",
        "diffusion_kto": "sharpness",
        "mapo": "beta",
    }
)


@dataclass(frozen=True)
class Changes:
    """What a person sets beside the preset; 0 and None leave the preset's (or the model's) value.

    Attributes:
        value: the objective's own argument, see `ARGUMENT`.
        resolution: pixels; side of the square whose area no picture exceeds.
        batch_size: pairs in one forward pass. accumulate: passes in one step.
    """

    objective: str = "dspo"
    value: float = 0.0
    lr: float = 0.0
    rank: int = 0
    targets: Targets | None = None
    resolution: int = 0
    batch_size: int = 1
    accumulate: int = 4
    flip: bool = False
    seed: int = 0
    save_every: int = 50
    precision: Precision = "auto"
    device: Device = "auto"
    gradient_checkpointing: bool = False


def configure(
    preset: PresetName, family: Family, steps: int, changes: Changes, options: Options = PLAIN
) -> TrainConfig:
    """The settings of a run.

    Raises:
        ConfigError: a value out of its range.
    """
    chosen = PRESETS[preset]
    rank = changes.rank or chosen.rank
    resolution = changes.resolution or family.resolution
    values: dict[str, Any] = {
        "objective": changes.objective,
        "objective_args": _arguments(chosen, changes),
        "steps": steps,
        "batch_size": changes.batch_size,
        "accumulate": changes.accumulate,
        "seed": changes.seed,
        "save_every": changes.save_every,
        "precision": changes.precision,
        "device": changes.device,
        "gradient_checkpointing": changes.gradient_checkpointing,
        "lora": {"rank": rank, "alpha": rank, "targets": changes.targets or chosen.targets},
        "optim": {"lr": changes.lr or chosen.lr, "schedule": "cosine", "warmup": int(WARM_UP * steps)},
        "data": {"resolution": resolution, "bucket_step": min(64, resolution // 8 * 8), "flip": changes.flip},
    }
    for key, given in options.settings().items():
        values[key] = {**values.get(key, {}), **given} if isinstance(given, dict) else given
    return from_dict(values)


def _arguments(preset: Preset, changes: Changes) -> dict[str, float]:
    name = ARGUMENT.get(changes.objective)
    if not changes.value:
        return {"strength": preset.strength} if changes.objective == "dspo" else {}
    if name is None:
        raise ConfigError(
            f"objective {changes.objective!r} has no number of its own, and objective_value is {changes.value:g}; "
            "set it to 0"
        )
    low, high = objectives.find(changes.objective).ranges[name]
    if not low <= changes.value <= high:
        limits = f"{name} of {changes.objective!r} must be between {low:g} and {high:g}"
        raise ConfigError(f"objective_value is {changes.value:g}; {limits}")
    return {name: changes.value}
