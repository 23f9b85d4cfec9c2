"""Socket types: ours, and those of core that its API does not name in every version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from comfy_api.v0_0_2 import io

if TYPE_CHECKING:
    from ..dspo_train.pairs import Scan

CATEGORY = "DSPO"

Pairs = io.Custom("DSPO_PAIRS")
TrainOptions = io.Custom("DSPO_OPTIONS")  # `forms.Overrides`
Taste = io.Custom("DSPO_TASTE")  # a `taste.model.TasteModel`
LoraModel = io.Custom("LORA_MODEL")  # a LoRA's tensors by their keys in the file
LossMap = io.Custom("LOSS_MAP")  # {"loss": [one value per step]}


@dataclass(frozen=True)
class PairSet:
    """What a `DSPO_PAIRS` wire carries: pairs, or liked and disliked images; `stamp` changes when the files do."""

    name: str
    scan: Scan
    stamp: str
