"""Socket types: ours, and core's that no class of its API names in every version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from comfy_api.v0_0_2 import io

if TYPE_CHECKING:
    from ..dspo_train.pairs import Scan

CATEGORY = "DSPO"

Pairs = io.Custom("DSPO_PAIRS")
TrainOptions = io.Custom("DSPO_OPTIONS")  # `forms.Overrides`
LoraModel = io.Custom("LORA_MODEL")  # a LoRA's tensors by their keys in the file
LossMap = io.Custom("LOSS_MAP")  # {"loss": [one value a step]}


@dataclass(frozen=True)
class PairSet:
    """What a `DSPO_PAIRS` wire carries: pairs, or liked and disliked pictures; `stamp` changes when the files do."""

    name: str
    scan: Scan
    stamp: str
