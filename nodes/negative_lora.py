"""DSPO Negative LoRA: a LoRA that core applies only while the model predicts the negative conditioning."""

from __future__ import annotations

from functools import partial
from typing import Any

import comfy.hooks
import comfy.lora_convert
import safetensors
from comfy_api.v0_0_2 import io

from . import places
from .lora_choice import chosen, lora_inputs, lora_stamp, name_of
from .lora_fit import check_fit
from .notes import note
from .sockets import CATEGORY

LABELS = "dspo.labels"  # metadata: `given` or `swapped`, the labels the LoRA was trained with
_WITH_METADATA = (".safetensors", ".sft")


class NegativeLora(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DSPONegativeLora",
            display_name="DSPO Negative LoRA",
            category=CATEGORY,
            description="Applies a LoRA to the negative conditioning only, so that guidance (CFG) leads away from "
            "what it learned. For LoRAs trained with the labels swapped (Diffusion-NPO).",
            hidden=[io.Hidden.unique_id],
            inputs=[
                io.Conditioning.Input("negative", tooltip="The negative conditioning of a sampler."),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-10.0,
                    max=10.0,
                    step=0.05,
                    tooltip="1 is as trained, 0 leaves the conditioning unchanged, above 1 exaggerates.",
                ),
                *lora_inputs(),
            ],
            outputs=[
                io.Conditioning.Output(
                    "negative_with_lora",
                    display_name="negative",
                    tooltip="The same conditioning with the LoRA attached, for a sampler's negative input.",
                )
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, lora_name: str | None = None, **_: object) -> str:
        return lora_stamp(lora_name)

    @classmethod
    def execute(
        cls, negative: list[Any], strength: float, lora: dict | None = None, lora_name: str = places.NO_LORA
    ) -> io.NodeOutput:
        tensors = chosen(lora, lora_name)
        name = name_of(lora, lora_name)
        if lora is None and strength > 0 and labels(lora_name.strip()) == "given":
            note(
                f"the LoRA {name} was trained towards your preferences, and here it leads away from them; "
                "a negative LoRA is trained with the labels swapped",
                cls.hidden.unique_id,
            )
        if strength == 0:
            return io.NodeOutput(negative)
        hooks = comfy.hooks.create_hook_lora(comfy.lora_convert.convert_lora(tensors), strength, 0.0)
        for hook in hooks.hooks:
            hook.custom_should_register = partial(_check, name)
        return io.NodeOutput(comfy.hooks.set_hooks_for_conditioning(negative, hooks))


def labels(lora_name: str) -> str | None:
    """The labels a file says it was trained with; None if it does not say."""
    path = str(places.lora(lora_name))
    if not path.lower().endswith(_WITH_METADATA):
        return None
    with safetensors.safe_open(path, framework="pt") as file:
        return (file.metadata() or {}).get(LABELS)


def _check(name: str, hook: Any, model: Any, *_: object) -> bool:
    """Called by core before it samples, which is when the LoRA first meets the model."""
    check_fit("DSPO Negative LoRA", name, hook.weights, model)
    return True
