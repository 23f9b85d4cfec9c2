"""Empty latents of a model's own form, and images from latents, for models that take an image for a video too."""

from __future__ import annotations

from typing import Any

import comfy.model_management as mm
import comfy.sample
import torch
from torch import Tensor

KEPT = ("samples", "noise_mask", "downscale_ratio_spacial")  # of a latent whose batch is cut down to its first


def latent_size(model: Any, width: int, height: int) -> tuple[int, int]:
    """Height and width in the model's latent pixels, from pixels."""
    ratio = int(getattr(model.model.latent_format, "spacial_downscale_ratio", 8))
    return max(1, height // ratio), max(1, width // ratio)


def empty_latent(model: Any, size: tuple[int, int]) -> Tensor:
    """(1, C, h, w), or (1, C, 1, h, w)"""
    channels = model.model.latent_format.latent_channels
    return comfy.sample.fix_empty_latent_channels(
        model, torch.zeros(1, channels, *size, device=mm.intermediate_device())
    )


def decoded(vae: Any, latents: Tensor) -> Tensor:
    """(N, H, W, 3); the frames of videos follow each other."""
    images = vae.decode(latents)
    return images.reshape(-1, *images.shape[-3:])


def first_of(latent: dict[str, Any]) -> dict[str, Any]:
    """The first of a batch, without its batch index, for which core would draw different noise."""
    return {key: latent[key][:1] if isinstance(latent[key], Tensor) else latent[key] for key in KEPT if key in latent}
