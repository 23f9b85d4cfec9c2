"""A diffusers UNet as a function: Stable Diffusion 1.x, 2.x and XL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffusers import UNet2DConditionModel
from torch import Tensor

from ..exceptions import ModelError
from .conditioning import Conditioning
from .families import Family

# Setting -> its values that need no further input, and what the others need.
_UNSUPPLIED: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "class_embed_type": ((None,), "class labels (unCLIP or upscaler)"),
    "num_class_embeds": ((None,), "class labels (unCLIP or upscaler)"),
    "time_cond_proj_dim": ((None,), "the guidance scale as an input (LCM or another guidance-distilled model)"),
    "encoder_hid_dim": ((None,), "projected image or text embeddings (DeepFloyd, Kandinsky, IP-Adapter)"),
    "encoder_hid_dim_type": ((None,), "projected image or text embeddings (DeepFloyd, Kandinsky, IP-Adapter)"),
    "dual_cross_attention": ((None, False), "image tokens beside the text (Versatile Diffusion)"),
    "attention_type": ((None, "default"), "boxes or other grounding (GLIGEN)"),
    "addition_embed_type": ((None, "text_time"), "further embeddings (Kandinsky or DeepFloyd)"),
}


def refuse_unsupplied(where: str, config: Mapping[str, Any]) -> None:
    """Refuse a UNet that loads but takes inputs that neither training nor drawing would give it.

    Raises:
        ModelError: it names the setting in the UNet's config and the input.
    """
    for name, (plain, what) in _UNSUPPLIED.items():
        if config.get(name) not in plain:
            raise ModelError(f"{where} takes {what}, which is not supported ({name} is {config[name]!r} in its config)")


def predict(
    family: Family, unet: UNet2DConditionModel, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning
) -> Tensor:
    """The UNet's raw prediction, in the UNet's precision. (N, 4, h, w), (N,) or one for all, N -> (N, 4, h, w)

    Args:
        timesteps: in the model's own units, see `Process.model_time`.

    Raises:
        ModelError: the conditioning lacks a tensor that this family needs.
    """
    # The first parameter is a base weight; an adapter's own are float32, whatever the base's type.
    base = next(unet.parameters())
    given = conditioning.to(base.device)
    try:
        inputs = family.inputs(given.tensors, base.dtype)
    except KeyError as error:
        raise ModelError(
            f"a UNet of {family.title} needs the conditioning {error}; found only {', '.join(given.tensors)}"
        ) from error
    return unet(
        noisy.to(base.device, base.dtype),
        timesteps.to(base.device),
        return_dict=False,
        **inputs,
    )[0]
