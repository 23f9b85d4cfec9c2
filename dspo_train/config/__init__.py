"""Settings: frozen values, checked when made."""

from .run import TrainConfig, from_dict, with_settings
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
