"""DSPO Training Options: what a training may do besides its preset."""

from __future__ import annotations

from typing import Any

from comfy_api.v0_0_2 import io

from ..dspo_train.config.forms import Overrides, read_form
from .setting_inputs import errors_in_graph, setting_inputs
from .sockets import CATEGORY, TrainOptions


class TrainingOptions(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DSPOTrainingOptions",
            display_name="DSPO Training Options",
            category=CATEGORY,
            description="What a training may do besides its preset: swap the labels, measure itself on pairs kept from "
            "it and stop early, average its weights, guard the winners. For the input options of DSPO Train LoRA.",
            inputs=setting_inputs("options"),
            outputs=[TrainOptions.Output("options", display_name="options", tooltip="For DSPO Train LoRA.")],
        )

    @classmethod
    def execute(cls, **given: Any) -> io.NodeOutput:
        with errors_in_graph():
            return io.NodeOutput(Overrides(read_form("options", given)))
