"""The kinds of training data. A new one is a module with a class, and a row here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from ..config import TrainConfig
from ..pairs import Scan
from .paired import PairedData
from .stepwise import StepwiseData
from .training_data import TrainingData
from .unpaired import UnpairedData

Kind = Literal["paired", "unpaired", "stepwise"]

DATA_KINDS: Mapping[Kind, Callable[[Scan], TrainingData]] = {
    "paired": PairedData,
    "unpaired": UnpairedData,
    "stepwise": StepwiseData,
}


def training_data(scan: Scan, config: TrainConfig) -> TrainingData:
    """A folder's content as data to train on, as a run's settings want it."""
    if config.stepwise.method != "off":
        return DATA_KINDS["stepwise"](scan)
    return DATA_KINDS["unpaired" if scan.unpaired else "paired"](scan)
