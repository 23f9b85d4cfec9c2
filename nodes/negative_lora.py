"""DSPO Negative LoRA: a LoRA that core applies only while the model predicts the negative conditioning."""

from __future__ import annotations

import logging
import math
from functools import partial
from typing import Any

import comfy.hooks
import comfy.lora
import comfy.lora_convert
import safetensors
from comfy.weight_adapter import LoRAAdapter
from comfy_api.v0_0_2 import io
from server import PromptServer

from ..dspo_train.exceptions import LoraFileError
from . import places
from .lora_choice import chosen, lora_inputs, lora_stamp
from .sockets import CATEGORY

LABELS = "dspo.labels"  # metadata: `given` or `swapped`, the labels the LoRA was trained with
_WITH_METADATA = (".safetensors", ".sft")

log = logging.getLogger("dspo")


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
        cls, negative: list[Any], strength: float, lora: dict | None = None, lora_name: str = ""
    ) -> io.NodeOutput:
        tensors = chosen(lora, lora_name)
        name = "on the wire" if lora is not None else ascii(lora_name.strip())
        if lora is None and strength > 0 and labels(lora_name.strip()) == "given":
            _note(
                f"the LoRA {name} was trained towards your preferences, and here it leads away from them; "
                "a negative LoRA is trained with the labels swapped",
                cls.hidden.unique_id,
            )
        if strength == 0:
            return io.NodeOutput(negative)
        hooks = comfy.hooks.create_hook_lora(comfy.lora_convert.convert_lora(tensors), strength, 0.0)
        for hook in hooks.hooks:
            hook.custom_should_register = partial(check_fit, name)
        return io.NodeOutput(comfy.hooks.set_hooks_for_conditioning(negative, hooks))


def labels(lora_name: str) -> str | None:
    """The labels a file says it was trained with; None if it does not say."""
    path = str(places.lora(lora_name))
    if not path.lower().endswith(_WITH_METADATA):
        return None
    with safetensors.safe_open(path, framework="pt") as file:
        return (file.metadata() or {}).get(LABELS)


def check_fit(name: str, hook: Any, model: Any, *_: object) -> bool:
    """Called by core before it samples, which is when the LoRA first meets the model.

    Layers of a LoRA for another kind of model would otherwise be skipped, and the image drawn without them.

    Raises:
        LoraFileError: no layer of the LoRA has a counterpart of its shape.
    """
    places_of = comfy.lora.model_lora_keys_unet(model.model, {})
    patches = comfy.lora.load_lora(hook.weights, places_of, log_missing=False)
    weights = model.model.state_dict()
    fitting = sum(fits(patch, weights.get(key)) for key, patch in patches.items() if isinstance(key, str))
    elsewhere = sum(not isinstance(key, str) for key in patches)  # a part of a weight: not a Stable Diffusion layer
    if not fitting + elsewhere:
        raise LoraFileError(
            f"DSPO Negative LoRA: the LoRA {name} fits no layer of the model; "
            "choose one that was trained for this kind of model"
        )
    if (left := len(patches) - fitting - elsewhere) > 0:
        log.warning("DSPO Negative LoRA: %d of %d layers of the LoRA %s do not fit", left, len(patches), name)
    return True


def fits(patch: Any, weight: Any) -> bool:
    """Can core add this patch to this weight? Checked for plain factors; other kinds of patch are taken on trust."""
    if weight is None:
        return False
    if not isinstance(patch, LoRAAdapter) or any(part is not None for part in patch.weights[3:]):
        return True
    up, down = patch.weights[:2]
    return up.shape[0] * down[0].numel() == math.prod(weight.shape)


def _note(text: str, node_id: str) -> None:
    """To the console and the node."""
    log.warning(text)
    PromptServer.instance.send_progress_text(f"Note: {text}", node_id)
