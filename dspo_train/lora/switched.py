"""What a LoRA and a full fine-tune have in common in training: a UNet made ready, and states to switch between."""

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
        """Inside, the UNet is in that state; afterwards in the previous one, also after an exception."""
        self._refuse_if_taken_off()
        before = self._state
        try:
            self._switch(state)
            yield
        finally:
            self._switch(before)

    @abstractmethod
    def _switch(self, state: _State) -> None:
        """Change to the state and record it."""

    @abstractmethod
    def _refuse_if_taken_off(self) -> None:
        """Raise a RuntimeError if the UNet was given back."""


def set_modes(unet: nn.Module) -> None:
    """Put a UNet into train mode, without which older diffusers versions do not checkpoint gradients, but keep the
    base's own dropout off, so that the policy and the reference are the same network.
    """
    unet.train()
    for module in unet.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
