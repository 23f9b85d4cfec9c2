"""Features of images by what is wired: forward passes beside whatever else ComfyUI keeps loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import comfy.model_management as mm
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...dspo_train.models.conditioning import Conditioning
from ...dspo_train.taste.features import DenoiserFeatures
from . import memory
from .encoder import ComfyEncoder
from .model import ComfyModel, Wired

AT_ONCE = 2  # as many as one image with guidance takes: who can draw has the memory


class WiredFeatures(DenoiserFeatures):
    """Implements `taste.features.ImageFeatures` with the wired MODEL as it stands, its patches included.

    Cancel ends it between two passes, by core's own exception.

    Args:
        encoded: what the CLIP gave for prompts that were encoded already.

    Raises:
        ModelError: the parts do not belong together, or no layer of the network is known.
    """

    def __init__(self, wired: Wired, encoded: Mapping[str, Any] | None = None) -> None:
        wired.matched()
        side = wired.family.resolution
        super().__init__(_Looking(wired, encoded or {}, _room(wired, side)), side, at_once=AT_ONCE)

    def of(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> np.ndarray:
        """See `ImageFeatures.of`."""
        try:
            return super().of(images, prompts)
        except mm.OOM_EXCEPTION:
            if self.at_once == 1:
                raise
        self.at_once = 1
        mm.soft_empty_cache()  # out here no frame holds the tensors of the failed pass
        return super().of(images, prompts)


class _Looking(ComfyModel):
    """A model of which only predictions are asked; its weights stay where core's memory management has them."""

    def __init__(self, wired: Wired, encoded: Mapping[str, Any], room: int) -> None:
        super().__init__(wired, wired.model, wired.family, wired.process, room)
        self.encoder = _Encoder(wired, encoded)

    @contextmanager
    def training(self, *, checkpointing: bool) -> Iterator[None]:
        """See `Model.training`; no gradient flows here, and what fits stays loaded, as after KSampler."""
        memory.load([self.patcher], self.room)
        self.patcher.pre_run()
        try:
            yield
        finally:
            self.patcher.cleanup()

    def predict(self, noisy: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """See `Model.predict`."""
        mm.throw_exception_if_processing_interrupted()
        return super().predict(noisy, t, conditioning)


class _Encoder(ComfyEncoder):
    """Encodes each prompt once, and leaves it to core what has to make room for what."""

    def __init__(self, wired: Wired, encoded: Mapping[str, Any]) -> None:
        super().__init__(wired.model, wired.clip, wired.vae)
        self.encoded = dict(encoded)

    def moments(self, pixels: Tensor) -> Tensor:
        """See `ComfyEncoder.moments`."""
        mm.throw_exception_if_processing_interrupted()
        return super().moments(pixels)

    def release(self) -> None:
        """Nothing: what is loaded next makes its own room."""

    def _given(self, text: str) -> Any:
        if text not in self.encoded:
            mm.throw_exception_if_processing_interrupted()
            self.encoded[text] = super()._given(text)
        return self.encoded[text]


def _room(wired: Wired, side: int) -> int:
    """Bytes that core expects a pass to take."""
    latents, cells = wired.model.model.latent_format, max(1, side // wired.encoder().factor)
    frames = (1,) * (latents.latent_dimensions - 2)
    with torch.inference_mode():
        return int(wired.model.memory_required([AT_ONCE, latents.latent_channels, *frames, cells, cells]))
