"""Settings: frozen values, checked on construction."""

from .run import SETTINGS, TrainConfig, dotted, from_dict, from_names, nested, with_defaults, with_settings
from .setting import Setting
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
)

__all__ = [
    "SETTINGS",
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
    "Setting",
    "Targets",
    "TrainConfig",
    "dotted",
    "from_dict",
    "from_names",
    "nested",
    "with_defaults",
    "with_settings",
]
