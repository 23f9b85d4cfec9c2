"""The layers of a UNet that a LoRA adapts, and the two small matrices that each of them gets. Needs only torch."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..config import LoraSpec
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
"""Keyed by the layer's path in diffusers' UNet, `mid_block.attentions.0.transformer_blocks.0.attn1.to_q`."""

_TRANSFORMER = r"(?:down_blocks\.\d+|mid_block|up_blocks\.\d+)\.attentions\.\d+"
_BLOCK = _TRANSFORMER + r"\.transformer_blocks\.\d+"
_ATTENTION = _BLOCK + r"\.attn[12]\.(?:to_q|to_k|to_v|to_out\.0)"
_MLP = _BLOCK + r"\.ff\.net\.(?:0\.proj|2)"
_PROJ = _TRANSFORMER + r"\.proj_(?:in|out)"

TARGETS: Mapping[str, re.Pattern[str]] = {
    "attention": re.compile(_ATTENTION),
    "attention+mlp": re.compile(f"{_ATTENTION}|{_MLP}"),
    "attention+mlp+proj": re.compile(f"{_ATTENTION}|{_MLP}|{_PROJ}"),
}


def fresh_weights(unet: nn.Module, spec: LoraSpec, *, seed: int) -> dict[str, LoraLayer]:
    """A LoRA that changes nothing yet: random down (Kaiming uniform, as in peft and kohya), zero up.

    Raises:
        ModelError: the UNet has none of the targeted layers.
    """
    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, LoraLayer] = {}
    for path, module in target_layers(unet, spec).items():
        down_shape, up_shape = layer_shapes(module, spec.rank)
        down = torch.empty(down_shape)
        bound = 1 / math.sqrt(math.prod(down_shape[1:]))
        down.uniform_(-bound, bound, generator=generator)
        weights[path] = LoraLayer(down, torch.zeros(up_shape), spec.alpha)
    return weights


def target_layers(unet: nn.Module, spec: LoraSpec) -> dict[str, nn.Module]:
    """The layers that `spec.targets` names, by path, in the UNet's own order.

    Raises:
        ModelError: there are none.
    """
    pattern = TARGETS[spec.targets]
    found = {path: module for path, module in adaptable_layers(unet).items() if pattern.fullmatch(path)}
    if not found:
        raise ModelError(
            f"{type(unet).__name__} has none of the layers that `lora.targets` {spec.targets!r} names; "
            "use a UNet of Stable Diffusion 1.x, 2.x or XL"
        )
    return found


def adaptable_layers(unet: nn.Module) -> dict[str, nn.Module]:
    """Every linear and 2-D convolution layer by its path, whether or not a LoRA is attached."""
    layers: dict[str, nn.Module] = {}
    wrapped = "\0"  # a LoRA's own layers are not part of the base
    for path, module in unet.named_modules():
        if path.startswith(wrapped):
            continue
        base = getattr(module, "get_base_layer", None)  # a peft layer's
        if base is not None:
            wrapped, module = path + ".", base()
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            layers[path] = module
    return layers


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


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(rank, in, 1, 1) and (rank, in) hold the same matrix."""
    return tuple(shape[:2]) if all(n == 1 for n in shape[2:]) else tuple(shape)


def layer_shapes(module: nn.Module, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of down and up for a linear or 2-D convolution layer."""
    if isinstance(module, nn.Conv2d):
        return (rank, module.in_channels, *module.kernel_size), (module.out_channels, rank, 1, 1)
    assert isinstance(module, nn.Linear)
    return (rank, module.in_features), (module.out_features, rank)
