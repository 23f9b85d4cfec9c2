"""A model with what is trained on it, as the loop sees it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor

from ..models.conditioning import Conditioning
from ..models.process import Process
from .model import Model
from .trainable import Trainable

Autocast = Callable[..., AbstractContextManager[Any]]


class TrainedDenoiser:
    """Implements `models.denoiser.Denoiser`.

    Args:
        autocast: makes the context of each prediction. A LoRA needs none; a whole model has float32 masters and runs
            under autocast. Every prediction has one of its own: a longer one caches casts of the trained weights, and
            would use them for the untrained model if both are the same tensors.
    """

    def __init__(self, model: Model, trained: Trainable, autocast: Autocast = nullcontext) -> None:
        self.model = model
        self.trained = trained
        self.autocast = autocast

    @property
    def process(self) -> Process:
        return self.model.process

    def predict(self, noisy: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """See `Denoiser.predict`."""
        with self.autocast():
            return self.model.predict(noisy, t, conditioning)

    def reference(self) -> AbstractContextManager[None]:
        """Inside, `predict` answers as the reference."""
        return self.trained.reference()

    def base(self) -> AbstractContextManager[None]:
        """Inside, `predict` answers as the base model, without any LoRA."""
        return self.trained.off()

    @property
    def reference_is_base(self) -> bool:
        return self.trained.reference_is_base

    def origin(self) -> AbstractContextManager[None]:
        """Inside, `predict` answers as the model before any training."""
        return self.trained.origin()
