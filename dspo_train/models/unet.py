"""The denoiser that wraps a diffusers UNet: Stable Diffusion 1.x, 2.x and XL."""

from __future__ import annotations

from contextlib import AbstractContextManager

from diffusers import UNet2DConditionModel
from torch import Tensor

from ..exceptions import ModelError
from ..training.trainable import Trainee
from .conditioning import Conditioning
from .process import NoiseProcess


class DiffusersDenoiser:
    """Implements `denoiser.Denoiser`; borrows the UNet with its adapter on."""

    def __init__(self, unet: UNet2DConditionModel, noise: NoiseProcess, adapter: Trainee) -> None:
        self.unet = unet
        self.noise = noise
        self.adapter = adapter

    def predict(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """See `predict`. (N, 4, h, w), (N,), N -> (N, 4, h, w)"""
        return predict(self.unet, noisy, timesteps, conditioning)

    def reference(self) -> AbstractContextManager[None]:
        """Inside, `predict` answers as the frozen reference."""
        return self.adapter.reference()

    def origin(self) -> AbstractContextManager[None]:
        """Inside, `predict` answers as the model before any training."""
        return self.adapter.origin()


def predict(unet: UNet2DConditionModel, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
    """The UNet's raw prediction, in the UNet's precision. (N, 4, h, w), (N,) or one for all, N -> (N, 4, h, w)

    Raises:
        ModelError: the UNet needs SDXL's size and pooled text conditioning and did not get it.
    """
    # The first parameter is a base weight: an adapter's own are float32 whatever the base is.
    base = next(unet.parameters())
    given = conditioning.to(base.device, base.dtype)
    return unet(
        noisy.to(base.device, base.dtype),
        timesteps.to(base.device),
        encoder_hidden_states=given.context,
        added_cond_kwargs=_added(unet, given),
        return_dict=False,
    )[0]


def _added(unet: UNet2DConditionModel, conditioning: Conditioning) -> dict[str, Tensor] | None:
    wanted = unet.config["addition_embed_type"] == "text_time"
    if conditioning.pooled is None or conditioning.time_ids is None:
        if wanted:
            raise ModelError(
                "this UNet is SDXL's and needs pooled text and size conditioning; it was given the text alone"
            )
        return None
    return {"text_embeds": conditioning.pooled, "time_ids": conditioning.time_ids}
