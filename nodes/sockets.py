"""Socket types: ours, and core's that no class of its API names in every version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from comfy_api.v0_0_2 import io

if TYPE_CHECKING:
    from ..dspo_train.pairs import PairScan

CATEGORY = "DSPO"

Pairs = io.Custom("DSPO_PAIRS")
LoraModel = io.Custom("LORA_MODEL")  # a LoRA's tensors by their keys in the file
LossMap = io.Custom("LOSS_MAP")  # {"loss": [one value a step]}


@dataclass(frozen=True)
class PairSet:
    """What a `DSPO_PAIRS` wire carries; `stamp` changes when the set's files do."""

    name: str
    scan: PairScan
    stamp: str
