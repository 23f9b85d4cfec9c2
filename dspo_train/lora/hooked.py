"""The LoRA on one layer, added by a forward hook: the model's modules, keys and weights stay as they are.

One layer for every model: any linear or 2-D convolution, whatever its weights are stored in or paged in from. The
factors are float32 masters, cast once to the layer's own type; there is no autocast. Nothing is computed, and nothing
kept, where the adapter is off.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_State = TypeVar("_State", bound=str)


@dataclass
class Switch(Generic[_State]):
    """Which adapter of a model is on; shared by all its layers. A state that a layer has no factors for is off."""

    state: _State


@dataclass
class Factors:
    """One adapter of one layer: scaling up (down x) (Hu et al. 2022).

    Attributes:
        down: (rank, in), for a convolution (rank, in, kernel, kernel).
        up: (out, rank), for a convolution (out, rank, 1, 1).
        alpha: by the rank, the scaling at full strength.
        dropout: share of x that is zeroed where gradients are recorded: not in previews, held-out errors or the
            reference.
    """

    down: nn.Parameter
    up: nn.Parameter
    scaling: float
    alpha: float
    dropout: float = 0.0

    def update(self, layer: nn.Module, x: Tensor) -> Tensor:
        """What the adapter adds to a layer's result, in the type of x. (..., in) -> (..., out)"""
        down, up = self.down.to(x.dtype), self.up.to(x.dtype)
        if self.dropout:
            x = F.dropout(x, self.dropout, training=torch.is_grad_enabled())
        if isinstance(layer, nn.Conv2d):
            return F.conv2d(layer._conv_forward(x, down, None), up) * self.scaling
        return F.linear(F.linear(x, down), up) * self.scaling


@dataclass
class AdapterLayer:
    """A layer's adapters, by the state in which each is on; it is its own forward hook."""

    switch: Switch[Any]
    adapters: dict[str, Factors] = field(default_factory=dict)

    def __call__(self, layer: nn.Module, given: tuple[Any, ...], result: Tensor) -> Tensor | None:
        factors = self.adapters.get(self.switch.state)
        return None if factors is None else result + factors.update(layer, given[0])


def adapted(network: nn.Module) -> bool:
    """Does the network carry an adapter, ours or peft's?"""
    ours = (hook for module in network.modules() for hook in module._forward_hooks.values())
    return any(isinstance(hook, AdapterLayer) for hook in ours) or any(
        hasattr(module, "get_base_layer") for module in network.modules()
    )
