"""A diffusers UNet as a function: Stable Diffusion 1.x, 2.x and XL."""

from __future__ import annotations

from diffusers import UNet2DConditionModel
from torch import Tensor

from ..exceptions import ModelError
from .conditioning import Conditioning
from .families import Family


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
