"""The kinds of training data. A new one is a module with a class, and a row here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from ..pairs import Scan
from .paired import PairedData
from .training_data import TrainingData
from .unpaired import UnpairedData

Kind = Literal["paired", "unpaired"]

DATA_KINDS: Mapping[Kind, Callable[[Scan], TrainingData]] = {"paired": PairedData, "unpaired": UnpairedData}


def training_data(scan: Scan) -> TrainingData:
    """A folder's content as data to train on."""
    return DATA_KINDS["unpaired" if scan.unpaired else "paired"](scan)
