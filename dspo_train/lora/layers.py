"""The layers of a network that a LoRA adapts, and the two small matrices that each of them gets. Needs only torch."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..config import LoraSpec, Targets
from ..exceptions import LoraFileError, ModelError


@dataclass(frozen=True)
class LoraLayer:
    """The update of one layer: (alpha / rank) up @ down. Float32 on the CPU.

    Attributes:
        down: (rank, in), for a convolution (rank, in, kernel, kernel).
        up: (out, rank), for a convolution (out, rank, 1, 1).
    """

    down: Tensor
    up: Tensor
    alpha: float

    @property
    def rank(self) -> int:
        return self.down.shape[0]


LoraWeights = Mapping[str, LoraLayer]
"""Keyed by the layer's path in the network, such as `mid_block.attentions.0.transformer_blocks.0.attn1.to_q`."""

TargetTable = Mapping[Targets, re.Pattern[str]]
"""The layers that each value of `lora.targets` names, by their whole path."""

_TRANSFORMER = r"(?:down_blocks\.\d+|mid_block|up_blocks\.\d+)\.attentions\.\d+"
_BLOCK = _TRANSFORMER + r"\.transformer_blocks\.\d+"
_ATTENTION = _BLOCK + r"\.attn[12]\.(?:to_q|to_k|to_v|to_out\.0)"
_MLP = _BLOCK + r"\.ff\.net\.(?:0\.proj|2)"
_PROJ = _TRANSFORMER + r"\.proj_(?:in|out)"

TARGETS: TargetTable = {  # of diffusers' UNet
    "attention": re.compile(_ATTENTION),
    "attention+mlp": re.compile(f"{_ATTENTION}|{_MLP}"),
    "attention+mlp+proj": re.compile(f"{_ATTENTION}|{_MLP}|{_PROJ}"),
}


def fresh_weights(
    network: nn.Module, spec: LoraSpec, *, seed: int, targets: TargetTable = TARGETS
) -> dict[str, LoraLayer]:
    """A LoRA that changes nothing yet: random down (Kaiming uniform, as in peft and kohya), zero up.

    Raises:
        ModelError: the network has none of the targeted layers.
    """
    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, LoraLayer] = {}
    for path, module in target_layers(network, spec, targets).items():
        down_shape, up_shape = layer_shapes(module, spec.rank)
        down = torch.empty(down_shape)
        bound = 1 / math.sqrt(math.prod(down_shape[1:]))
        down.uniform_(-bound, bound, generator=generator)
        weights[path] = LoraLayer(down, torch.zeros(up_shape), spec.alpha)
    return weights


def target_layers(network: nn.Module, spec: LoraSpec, targets: TargetTable = TARGETS) -> dict[str, nn.Module]:
    """The layers that `spec.targets` names, by path, in the network's own order.

    Raises:
        ModelError: there are none.
    """
    pattern = targets[spec.targets]
    found = {path: module for path, module in adaptable_layers(network).items() if pattern.fullmatch(path)}
    if not found:
        raise ModelError(
            f"{type(network).__name__} has none of the layers that `lora.targets` {spec.targets!r} names; it cannot be "
            "trained"
        )
    return found


def adaptable_layers(network: nn.Module) -> dict[str, nn.Module]:
    """Every linear and 2-D convolution layer by its path; a layer counts by what it does, not by its class."""
    return {
        path: module for path, module in network.named_modules() if isinstance(module, nn.Conv2d) or _is_linear(module)
    }


def _is_linear(module: nn.Module) -> bool:
    """Quantised linear layers are not always torch's."""
    return isinstance(getattr(module, "in_features", None), int) and isinstance(
        getattr(module, "out_features", None), int
    )


def fitted(path: str, layer: LoraLayer, module: nn.Module) -> LoraLayer:
    """The same update in the base layer's own dimensions: 2-D for linear layers, 4-D for convolutions.

    Raises:
        LoraFileError: the update was made for a layer of another size.
    """
    down_shape, up_shape = layer_shapes(module, layer.rank)
    found = f"down {tuple(layer.down.shape)}, up {tuple(layer.up.shape)}"
    if _squeezed(layer.down.shape) != _squeezed(down_shape) or _squeezed(layer.up.shape) != _squeezed(up_shape):
        raise LoraFileError(
            f"{path}: the LoRA ({found}) does not fit this base, which needs down {down_shape}, up {up_shape}"
        )
    return replace(layer, down=layer.down.reshape(down_shape), up=layer.up.reshape(up_shape))


def rank_parameters(network: nn.Module, targets: Targets, table: TargetTable = TARGETS) -> int:
    """Parameters of a LoRA of rank 1: inputs plus outputs of every targeted layer.

    Raises:
        ModelError: there are none.
    """
    layers = target_layers(network, LoraSpec(targets=targets), table).values()
    return sum(math.prod(shape) for layer in layers for shape in layer_shapes(layer, 1))


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(rank, in, 1, 1) and (rank, in) hold the same matrix."""
    return tuple(shape[:2]) if all(n == 1 for n in shape[2:]) else tuple(shape)


def layer_shapes(module: nn.Module, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of down and up for a linear or 2-D convolution layer."""
    if isinstance(module, nn.Conv2d):
        return (rank, module.in_channels, *module.kernel_size), (module.out_channels, rank, 1, 1)
    linear: Any = module
    return (rank, linear.in_features), (linear.out_features, rank)
