"""Does a LoRA fit the model it meets? Core skips what does not, and would draw without it and without a word."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import comfy.lora
import comfy.lora_convert
import comfy.sd
from comfy.weight_adapter import LoRAAdapter

from ..dspo_train.exceptions import LoraFileError

_READS_TEXT = (".attn2.to_k.weight", ".attn2.to_v.weight")

log = logging.getLogger("dspo")


def patched(node: str, name: str, tensors: Any, model: Any, strengths: Sequence[float]) -> list[Any]:
    """The model with the LoRA at each strength, as core's own loader applies it; the fit is checked once.

    Args:
        node, name: for messages.

    Raises:
        LoraFileError: the LoRA fits no layer of the model.
    """
    check_fit(node, name, comfy.lora_convert.convert_lora(tensors), model)
    return [comfy.sd.load_lora_for_models(model, None, tensors, strength, 0)[0] for strength in strengths]


def check_fit(node: str, name: str, tensors: Any, model: Any) -> None:
    """Models of two families may share some shapes, but not the width of the text that they read.

    Raises:
        LoraFileError: no layer of the LoRA has a counterpart of its shape, or none of those that read the text.
    """
    places_of = comfy.lora.model_lora_keys_unet(model.model, {})
    patches = comfy.lora.load_lora(tensors, places_of, log_missing=False)
    weights = model.model.state_dict()
    fit = {key: fits(patch, weights.get(key)) for key, patch in patches.items() if isinstance(key, str)}
    readers = [key for key in fit if key.endswith(_READS_TEXT)]
    fitting = 0 if readers and not any(fit[key] for key in readers) else sum(fit.values())
    elsewhere = sum(not isinstance(key, str) for key in patches)  # a part of a weight: not a Stable Diffusion layer
    if not fitting + elsewhere:
        raise LoraFileError(
            f"{node}: the LoRA {name} fits no layer of the model; choose one that was trained for this kind of model"
        )
    if (left := len(patches) - fitting - elsewhere) > 0:
        log.warning("%s: %d of %d layers of the LoRA %s do not fit", node, left, len(patches), name)


def fits(patch: Any, weight: Any) -> bool:
    """Can core add this patch to this weight? Checked for plain factors; other kinds of patch are taken on trust."""
    if weight is None:
        return False
    if not isinstance(patch, LoRAAdapter) or any(part is not None for part in patch.weights[3:]):
        return True
    up, down = patch.weights[:2]
    return up.shape[0] * down[0].numel() == math.prod(weight.shape)
