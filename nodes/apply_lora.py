"""DSPO Apply LoRA: core's LoRA loader, fed by a wire or a name."""

from __future__ import annotations

from typing import Any

from comfy_api.v0_0_2 import io

from . import places
from .lora_choice import chosen, listed_name, lora_inputs, lora_stamp, name_of
from .lora_fit import patched
from .lora_lineage import carried, carrying, warnings
from .notes import note
from .sockets import CATEGORY


class ApplyLora(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DSPOApplyLora",
            display_name="DSPO Apply LoRA",
            category=CATEGORY,
            description="Applies a LoRA to a model, as ComfyUI's own loader does, from DSPO Train LoRA's output or by "
            "name.",
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
            inputs=[
                io.Model.Input("model", tooltip="The model to apply the LoRA to."),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-10.0,
                    max=10.0,
                    step=0.05,
                    tooltip="1 is as trained, 0 leaves the model unchanged, above 1 exaggerates.",
                ),
                *lora_inputs(),
            ],
            outputs=[
                io.Model.Output("model_with_lora", display_name="model", tooltip="The model with the LoRA applied.")
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, lora_name: str | None = None, **_: object) -> str:
        return lora_stamp(lora_name)

    @classmethod
    def execute(
        cls, model: Any, strength: float, lora: dict | None = None, lora_name: str = places.NO_LORA
    ) -> io.NodeOutput:
        tensors = chosen(lora, lora_name)
        if strength == 0:
            return io.NodeOutput(model)
        (with_lora,) = patched("DSPO Apply LoRA", name_of(lora, lora_name), tensors, model, [strength])
        name = listed_name(lora, lora_name)
        for text in warnings(name, carried(cls, model)):
            note(text, cls.hidden.unique_id)
        return io.NodeOutput(carrying(with_lora, model, name))
