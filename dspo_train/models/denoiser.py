"""The seam between preference learning and a model."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from torch import Tensor

from .conditioning import Conditioning
from .process import Process


class Denoiser(Protocol):
    """A model that predicts as the policy (its adapters on) or as the reference."""

    @property
    def process(self) -> Process: ...

    def predict(self, noisy: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """The model's raw prediction. (N, C, h, w), (N,), N -> (N, C, h, w)"""
        ...

    def reference(self) -> AbstractContextManager[None]:
        """Inside, `predict` answers as the reference; restored on leaving, also after an exception."""
        ...

    def base(self) -> AbstractContextManager[None]:
        """Inside, `predict` answers as the base model, without any LoRA of this run's or of one that it refines."""
        ...

    @property
    def reference_is_base(self) -> bool: ...

    def origin(self) -> AbstractContextManager[None]:
        """Inside, `predict` answers as the model before any training, which is the reference unless that is an EMA."""
        ...
