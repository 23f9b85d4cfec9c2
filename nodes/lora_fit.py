"""Does a LoRA fit the model it meets? Core skips what does not, and would draw without it and without a word."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import comfy.lora
import comfy.lora_convert
import comfy.sd
from comfy.weight_adapter import LoRAAdapter
from torch import Tensor

from ..dspo_train.exceptions import LoraFileError

_READS_TEXT = (".attn2.to_k.weight", ".attn2.to_v.weight")
_OF_TEXT = re.compile(r"lora_(?:prior_)?te|text_encoder|te\d*[._]|.*clip_[lg]|.*\btext_model")  # keys of LoRA files

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
    fit = {key: fits(patch, _part(weights, key)) for key, patch in patches.items()}
    readers = [key for key in fit if isinstance(key, str) and key.endswith(_READS_TEXT)]
    fitting = 0 if readers and not any(fit[key] for key in readers) else sum(fit.values())
    if not fitting:
        raise LoraFileError(f"{node}: the LoRA {name} {_why(tensors, patches)}")
    if (left := len(fit) - fitting) > 0:
        log.warning("%s: %d of %d layers of the LoRA %s do not fit", node, left, len(fit), name)


def _why(tensors: Any, patches: Any) -> str:
    if not patches and any(map(_OF_TEXT.match, tensors)):
        return "changes only the text encoder, and this node changes only the model; load it with ComfyUI's Load LoRA"
    return "fits no layer of the model; choose one that was trained for this kind of model"


def _part(weights: Mapping[str, Tensor], key: Any) -> tuple[tuple[int, ...], bool] | None:
    """Shape of the weight, or of the part of it, that core would patch, and whether its numbers are stored as such.

    Args:
        key: of a patch: a name, or for a part of a fused weight (name, (axis, start, length), ...).
    """
    name, *rest = (key,) if isinstance(key, str) else key
    weight = weights.get(name)
    if weight is None:
        return None
    shape = list(weight.shape)
    if rest and rest[0] is not None:
        axis, start, length = rest[0]
        if axis >= len(shape) or start + length > shape[axis]:
            return None
        shape[axis] = length
    return tuple(shape), weight.is_floating_point()


def fits(patch: Any, part: tuple[tuple[int, ...], bool] | None) -> bool:
    """Can core add this patch to a weight of this shape? Other kinds of patch, and packed weights, are trusted."""
    if part is None:
        return False
    shape, plain = part
    if not plain:
        return True
    if isinstance(patch, tuple):
        return patch[0] not in ("diff", "set") or patch[1][0].numel() == math.prod(shape)
    if not isinstance(patch, LoRAAdapter) or any(more is not None for more in patch.weights[3:]):
        return True
    up, down = patch.weights[:2]
    return up.shape[0] * down[0].numel() == math.prod(shape)
