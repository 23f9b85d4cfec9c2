"""What a LoRA and a full fine-tune have in common in training: states to switch between."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

_State = TypeVar("_State", bound=str)


class Switched(ABC, Generic[_State]):
    """A model in one of several states."""

    _state: _State

    @contextmanager
    def _as(self, state: _State) -> Iterator[None]:
        """Inside, the model is in that state; afterwards in the previous one, also after an exception."""
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
        """Raise a RuntimeError if the model was given back."""
