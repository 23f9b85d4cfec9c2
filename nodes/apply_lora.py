"""DSPO Apply LoRA: core's LoRA loader, fed by a wire or by a name."""

from __future__ import annotations

import comfy.sd
import comfy.utils
from comfy_api.v0_0_2 import io

from ..dspo_train.exceptions import LoraFileError
from . import places
from .sockets import CATEGORY, LoraModel


def chosen(lora: dict | None, lora_name: str) -> dict:
    """The tensors of the LoRA that is wired in, else of the one that is named.

    Raises:
        LoraFileError: neither is given, or ComfyUI lists no such file.
    """
    if lora is not None:
        return lora
    if not lora_name.strip():
        raise LoraFileError("no LoRA is given; wire one into `lora`, or write its name into `lora_name`")
    return comfy.utils.load_torch_file(str(places.lora(lora_name.strip())), safe_load=True)


def lora_stamp(lora_name: str | None) -> str:
    """Changes when the named file does."""
    if not lora_name or not lora_name.strip():
        return ""
    return str(places.stamp(places.lora(lora_name.strip())))


class ApplyLora(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DSPOApplyLora",
            display_name="DSPO Apply LoRA",
            category=CATEGORY,
            description="Puts a LoRA on a model. The same as ComfyUI's own loader; this one takes the trainer's wire, "
            "or its name.",
            inputs=[
                io.Model.Input("model", tooltip="The model to put the LoRA on."),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-10.0,
                    max=10.0,
                    step=0.05,
                    tooltip="1 is as trained, 0 leaves the model as it is, more than 1 exaggerates.",
                ),
                LoraModel.Input("lora", optional=True, tooltip="A LoRA from DSPO Train LoRA. Goes before the name."),
                io.String.Input(
                    "lora_name",
                    default="",
                    optional=True,
                    tooltip="Name of a LoRA as ComfyUI lists it, such as dspo/my-taste-01.safetensors.",
                ),
            ],
            outputs=[
                io.Model.Output("model_with_lora", display_name="model", tooltip="The model with the LoRA on it.")
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, lora_name: str | None = None, **_: object) -> str:
        return lora_stamp(lora_name)

    @classmethod
    def execute(cls, model: object, strength: float, lora: dict | None = None, lora_name: str = "") -> io.NodeOutput:
        tensors = chosen(lora, lora_name)
        if strength == 0:
            return io.NodeOutput(model)
        return io.NodeOutput(comfy.sd.load_lora_for_models(model, None, tensors, strength, 0)[0])
