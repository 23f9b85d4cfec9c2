"""What a run may do besides its preset, in the flat words of a form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Literal

from .run import from_dict
from .specs import RANGES, Keep, Labels, check_choice

Sharpness = Literal["off", "auto", "value"]

# Where each stands among the settings of a run; `sharpness` and its value make one.
SETTING: Mapping[str, str] = MappingProxyType(
    {
        "labels": "labels",
        "keep": "keep",
        "held_out_share": "held_out.share",
        "held_out_every": "held_out.every",
        "held_out_patience": "held_out.patience",
        "ema": "ema",
        "sft_mix": "loss.sft_mix",
        "label_smoothing": "loss.label_smoothing",
        "safeguard": "loss.safeguard",
        "margin_cap": "loss.margin_cap",
        "sharpness_value": "loss.sharpness",
        "moving_reference": "moving_reference",
        "min_snr": "loss.min_snr",
        "one_per_prompt": "data.one_per_prompt",
        "least_noise": "data.least_noise",
        "most_noise": "data.most_noise",
    }
)
OFF_AT_ZERO = frozenset({"safeguard", "margin_cap", "min_snr"})  # settings that are None where they are not wanted


@dataclass(frozen=True)
class Options:
    """As in `TrainConfig`, whose defaults these are; 0 leaves out what a run does without, see `OFF_AT_ZERO`.

    Attributes:
        sharpness: of `loss.sharpness`: `value` takes the number of `sharpness_value`.

    Raises:
        ConfigError: a value out of its range, or one that needs another.
    """

    labels: Labels = "given"
    keep: Keep = "last"
    held_out_share: float = 0.0
    held_out_every: int = 25
    held_out_patience: int = 0
    ema: float = 0.0
    sft_mix: float = 0.0
    label_smoothing: float = 0.0
    safeguard: float = 0.0
    margin_cap: float = 0.0
    sharpness: Sharpness = "off"
    sharpness_value: float = 1000.0
    moving_reference: float = 0.0
    min_snr: float = 0.0
    one_per_prompt: bool = False
    least_noise: float = 0.0
    most_noise: float = 1.0

    def __post_init__(self) -> None:
        check_choice("sharpness", self.sharpness, Sharpness)
        from_dict(self.settings())

    def settings(self) -> dict[str, Any]:
        """Nested, as `from_dict` takes them."""
        given = asdict(self) | {name: getattr(self, name) or None for name in OFF_AT_ZERO}
        given["sharpness_value"] = {"off": None, "auto": "auto"}.get(self.sharpness, self.sharpness_value)
        nested: dict[str, Any] = {}
        for name, setting in SETTING.items():
            group, _, key = setting.rpartition(".")
            place = nested.setdefault(group, {}) if group else nested
            place[key] = given[name]
        return nested


def limits(name: str) -> tuple[float, float]:
    """The range of a number of `Options`."""
    low, high = RANGES[SETTING[name]]
    return (0.0 if name in OFF_AT_ZERO else low), high


PLAIN = Options()
