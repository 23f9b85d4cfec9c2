"""The seam between preference learning and a model."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from torch import Tensor

from .conditioning import Conditioning
from .process import Process


class Denoiser(Protocol):
    """A model that predicts, with its adapters on (the policy) or in the reference state."""

    @property
    def process(self) -> Process: ...

    def predict(self, noisy: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """The model's raw prediction. (N, C, h, w), (N,), N -> (N, C, h, w)"""
        ...

    def reference(self) -> AbstractContextManager[None]:
        """Inside, `predict` answers as the frozen reference; restored on leaving, also by an exception."""
        ...

    def origin(self) -> AbstractContextManager[None]:
        """Inside, `predict` answers as the model before any training: the reference, unless that moves."""
        ...
