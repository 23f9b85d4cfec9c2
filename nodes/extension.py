"""The nodes that ComfyUI registers."""

from __future__ import annotations

from comfy_api.v0_0_2 import ComfyExtension, io

from .ab_grid import ABGrid
from .apply_lora import ApplyLora
from .compare_sampler import CompareSampler
from .preference_set import PreferenceSet
from .train_lora import TrainLora

NODES: list[type[io.ComfyNode]] = [PreferenceSet, TrainLora, ApplyLora, CompareSampler, ABGrid]


class DspoStudio(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES
