"""What a trained LoRA and a UNet trained whole have in common: a UNet ready for it, and states to go to and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from torch import nn

_State = TypeVar("_State", bound=str)


class Switched(ABC, Generic[_State]):
    """A UNet in one of several states."""

    _state: _State

    @contextmanager
    def _as(self, state: _State) -> Iterator[None]:
        """Inside, the UNet is in that state; afterwards in the one before, whatever was raised."""
        self._refuse_if_taken_off()
        before = self._state
        try:
            self._switch(state)
            yield
        finally:
            self._switch(before)

    @abstractmethod
    def _switch(self, state: _State) -> None:
        """Go to the state for good, and note it."""

    @abstractmethod
    def _refuse_if_taken_off(self) -> None:
        """Raise RuntimeError where the UNet was given back."""


def set_modes(unet: nn.Module) -> None:
    """Older diffusers recompute activations in train mode only; a base's own dropout stays off, so that the policy and
    the reference are the same network.
    """
    unet.train()
    for module in unet.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
