"""A denoiser with classifier-free guidance, as images are drawn with it."""

from __future__ import annotations

from contextlib import AbstractContextManager

from torch import Tensor

from .conditioning import Conditioning
from .denoiser import Denoiser
from .process import Process


class Guided:
    """Implements `Denoiser`: the empty caption's prediction, and `guidance` times of what the prompt changes in it.

    Args:
        empty: the text conditioning of the empty caption, one row.
    """

    def __init__(self, denoiser: Denoiser, guidance: float, empty: Conditioning) -> None:
        self.denoiser, self.guidance, self.empty = denoiser, guidance, empty

    @property
    def process(self) -> Process:
        return self.denoiser.process

    def predict(self, noisy: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """See `Denoiser.predict`; two predictions, since texts may differ in length."""
        prompted = self.denoiser.predict(noisy, t, conditioning)
        unprompted = self.denoiser.predict(noisy, t, self._without_words(conditioning))
        return unprompted + self.guidance * (prompted - unprompted)

    def _without_words(self, conditioning: Conditioning) -> Conditioning:
        rows, place = len(conditioning), next(iter(conditioning.tensors.values())).device
        words = {name: tensor.to(place).expand(rows, *tensor.shape[1:]) for name, tensor in self.empty.tensors.items()}
        return Conditioning({**conditioning.tensors, **words})

    def reference(self) -> AbstractContextManager[None]:
        return self.denoiser.reference()

    def base(self) -> AbstractContextManager[None]:
        return self.denoiser.base()

    @property
    def reference_is_base(self) -> bool:
        return self.denoiser.reference_is_base

    def origin(self) -> AbstractContextManager[None]:
        return self.denoiser.origin()
