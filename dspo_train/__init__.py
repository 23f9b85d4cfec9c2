"""Preference learning for image models: from labelled pairs to a LoRA.

    from dspo_train import DiffusersSource, Job, TrainConfig, open_session

    job = Job(DiffusersSource(base), pairs, out, TrainConfig(steps=400))
    with open_session(job) as session:
        for report in session.reports():
            print(report.step, report.margin)
        print(session.folder.result)

Names are imported on first use, because torch and diffusers take seconds to import.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .version import VERSION

if TYPE_CHECKING:
    from .config import DataSpec as DataSpec
    from .config import LoraSpec as LoraSpec
    from .config import OptimSpec as OptimSpec
    from .config import TrainConfig as TrainConfig
    from .drawing.grids import ab_grid as ab_grid
    from .exceptions import DspoError as DspoError
    from .lora.attach import applied as applied
    from .lora.writing import load_lora as load_lora
    from .lora.writing import save_lora as save_lora
    from .models.base import load_base as load_base
    from .models.sampling import sample as sample
    from .objectives import OBJECTIVES as OBJECTIVES
    from .pairs import scan_pairs as scan_pairs
    from .runs.diffusers_model import DiffusersSource as DiffusersSource
    from .runs.job import Job as Job
    from .runs.session import open_session as open_session

__version__ = VERSION

_HOME = {
    "OBJECTIVES": "objectives",
    "DataSpec": "config",
    "DiffusersSource": "runs.diffusers_model",
    "DspoError": "exceptions",
    "Job": "runs.session",
    "LoraSpec": "config",
    "OptimSpec": "config",
    "TrainConfig": "config",
    "ab_grid": "drawing.grids",
    "applied": "lora.attach",
    "load_base": "models.base",
    "load_lora": "lora.writing",
    "open_session": "runs.session",
    "sample": "models.sampling",
    "save_lora": "lora.writing",
    "scan_pairs": "pairs",
}

__all__ = list(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
