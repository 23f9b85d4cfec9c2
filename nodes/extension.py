"""The nodes that ComfyUI registers."""

from __future__ import annotations

import logging

from comfy_api.v0_0_2 import ComfyExtension, io
from server import PromptServer

from ..dspo_train.runs.installed import trouble
from . import places, routes
from .ab_grid import ABGrid
from .apply_lora import ApplyLora
from .blind_images import BlindTestImages
from .blind_test import BlindTest
from .candidates import DrawCandidates
from .collect_pairs import CollectPairs
from .compare_sampler import CompareSampler
from .negative_lora import NegativeLora
from .playground import Playground
from .preference_set import PreferenceSet
from .score_images import ScoreImages
from .search import findable
from .taste import LearnTaste
from .train_lora import TrainLora
from .training_options import TrainingOptions

log = logging.getLogger("dspo")

NODES: list[type[io.ComfyNode]] = [
    PreferenceSet,
    TrainLora,
    TrainingOptions,
    ApplyLora,
    NegativeLora,
    CompareSampler,
    ABGrid,
    CollectPairs,
    DrawCandidates,
    BlindTest,
    BlindTestImages,
    Playground,
    LearnTaste,
    ScoreImages,
]


class DspoStudio(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        if message := trouble(places.REQUIREMENTS):
            log.error("DSPO Studio cannot train: %s", message)
        if getattr(PromptServer, "instance", None):
            routes.register(PromptServer.instance)
        return [findable(node) for node in NODES]
