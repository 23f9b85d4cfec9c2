"""DSPO Training Options: optional settings on top of a preset."""

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
            description="Optional training settings on top of the preset: swapped labels, held-out pairs with early "
            "stop, an average of the weights, safeguards for the winners. For the options input of DSPO Train LoRA.",
            inputs=setting_inputs("options"),
            outputs=[TrainOptions.Output("options", display_name="options", tooltip="For DSPO Train LoRA.")],
        )

    @classmethod
    def execute(cls, **given: Any) -> io.NodeOutput:
        with errors_in_graph():
            return io.NodeOutput(Overrides(read_form("options", given)))
