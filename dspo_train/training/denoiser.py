"""The denoiser that is trained through diffusers: Stable Diffusion 1.x, 2.x and XL."""

from __future__ import annotations

from contextlib import AbstractContextManager

from torch import Tensor

from ..models.base import Base
from ..models.conditioning import Conditioning
from ..models.process import Process
from ..models.unet import predict
from .trainable import Trainable


class DiffusersDenoiser:
    """Implements `models.denoiser.Denoiser` with the base's UNet and what is trained on it."""

    def __init__(self, base: Base, trained: Trainable) -> None:
        self.base = base
        self.trained = trained

    @property
    def process(self) -> Process:
        return self.base.process

    def predict(self, noisy: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """See `Denoiser.predict`."""
        return predict(self.base.family, self.base.unet, noisy, self.process.model_time(t), conditioning)

    def reference(self) -> AbstractContextManager[None]:
        """Inside, `predict` answers as the reference."""
        return self.trained.reference()

    def origin(self) -> AbstractContextManager[None]:
        """Inside, `predict` answers as the model before any training."""
        return self.trained.origin()
