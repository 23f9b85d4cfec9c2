"""A model with what is trained on it, as the loop sees it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor

from ..models.conditioning import Conditioning
from ..models.process import Process
from ..models.reading import in_v, v_of
from .model import Model
from .trainable import Trainable

Autocast = Callable[..., AbstractContextManager[Any]]


class TrainedDenoiser:
    """Implements `models.denoiser.Denoiser`.

    Args:
        autocast: makes the context of each prediction. A LoRA needs none; a whole model has float32 masters and runs
            under autocast. Every prediction has one of its own: a longer one caches casts of the trained weights, and
            would use them for the untrained model if both are the same tensors.
        in_v: tell a predicted noise as v; see `models.reading`.
    """

    def __init__(
        self, model: Model, trained: Trainable, autocast: Autocast = nullcontext, *, in_v: bool = False
    ) -> None:
        self.model = model
        self.trained = trained
        self.autocast = autocast
        self.in_v = in_v

    @property
    def process(self) -> Process:
        return in_v(self.model.process) if self.in_v else self.model.process

    def predict(self, noisy: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """See `Denoiser.predict`."""
        with self.autocast():
            predicted = self.model.predict(noisy, t, conditioning)
        return v_of(self.model.process, predicted, noisy, t) if self.in_v else predicted

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
