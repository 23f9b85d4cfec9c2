"""Gradients through layers whose own weights stay as they are: stored in fp8 or int8, patched, or paged in per layer.

Autograd would keep each layer's cast weight for the backward pass: a whole second model where the weights are
quantised, and a buffer that is overwritten where they are paged in. A frozen layer keeps nothing; the backward pass
casts its weight again. Weights may therefore be inference tensors too, as those that ComfyUI's loader nodes make are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import comfy.ops
import torch
from torch import Tensor, nn
from torch.nn import grad

CONVOLUTIONS: dict[type[nn.Module], Callable[..., Tensor]] = {
    nn.Conv1d: grad.conv1d_input,
    nn.Conv2d: grad.conv2d_input,
    nn.Conv3d: grad.conv3d_input,
}


@contextmanager
def frozen_layers(
    network: nn.Module, *, device: torch.device | None = None, virtual: bool = False
) -> Iterator[Callable[[], None]]:
    """Inside, every linear and convolution layer of a network is frozen, and its other weights are ordinary tensors,
    which autograd may keep.

    Args:
        device: of those other weights, so that none is paged in while autograd keeps it; None leaves them in place.
        virtual: the layers give results of the right shape without touching their weights; for counting.

    Yields:
        What makes the other weights ordinary again, to be called after the network was loaded again.
    """
    kind = _Virtual if virtual else _Frozen
    with ExitStack() as stack:
        others = []
        for module in list(network.modules()):
            if is_frozen(module):
                stack.enter_context(replaced_forward(module, _through(kind, module)))
            elif not isinstance(module, nn.Embedding):  # its weight is never kept
                others.append(module)
        copies = _Copies(others, device)
        stack.callback(copies.put_back)
        copies.make()
        yield copies.make


def is_frozen(module: nn.Module) -> bool:
    """Is this a layer that `frozen_layers` freezes?"""
    if isinstance(module, tuple(CONVOLUTIONS)):
        return module.padding_mode == "zeros" and not isinstance(module.padding, str)
    return hasattr(module, "in_features") and hasattr(module, "out_features")


@contextmanager
def replaced_forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Inside, a module runs another function; an own one that it had, as of a bypassed LoRA, is put back."""
    own = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own


def weight_of(layer: Any, like: Tensor) -> Tensor:
    """A layer's weight as it computes with it: patched, dequantised, in the type and on the device of `like`."""
    if hasattr(layer, "cast_bias_weight"):  # loaders of GGUF files bring their own
        weight = layer.cast_bias_weight(input=like)[0]
    elif isinstance(layer, comfy.ops.CastWeightBiasOp):
        weight = comfy.ops.cast_bias_weight(layer, input=like)[0]
    else:
        weight = layer.weight
    if hasattr(weight, "dequantize") and type(weight) is not Tensor and not isinstance(weight, nn.Parameter):
        weight = weight.dequantize()
    return weight.to(like.device, like.dtype)


class _Frozen(torch.autograd.Function):
    """A layer's result, and the gradient of its input: g W for a linear layer, and its like for a convolution."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: nn.Module, run: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.layer, ctx.shape = layer, x.shape
        return run(x.detach())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (gradient,) = gradients
        return _input_gradient(ctx.layer, ctx.shape, gradient), None, None


class _Virtual(torch.autograd.Function):
    """The shapes of `_Frozen`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Any, run: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.shape = x.shape
        if isinstance(layer, tuple(CONVOLUTIONS)):
            return layer._conv_forward(x.detach(), x.new_empty(layer.weight.shape), None)
        if x.shape[-1] != layer.in_features:
            raise RuntimeError(f"{x.shape[-1]} features where {layer.in_features} are taken")
        return x.new_empty(*x.shape[:-1], layer.out_features)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return gradients[0].new_empty(ctx.shape), None, None


def _input_gradient(layer: Any, shape: torch.Size, gradient: Tensor) -> Tensor:
    weight = weight_of(layer, gradient)
    for kind, of_input in CONVOLUTIONS.items():
        if isinstance(layer, kind):
            return of_input(shape, weight, gradient, layer.stride, layer.padding, layer.dilation, layer.groups)
    result = gradient @ weight
    smoothing = getattr(layer, "pre_quant_scale", None)  # by which some quantised layers multiply their input
    return result if smoothing is None else result * smoothing.to(result.device, result.dtype)


def _through(kind: type[torch.autograd.Function], module: nn.Module) -> Callable[..., Any]:
    plain = module.forward

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        if kind is _Virtual or (torch.is_grad_enabled() and x.requires_grad):
            return kind.apply(x, module, lambda given: plain(given, *args, **kwargs))
        return plain(x, *args, **kwargs)

    return forward


class _Copies:
    """Ordinary tensors in place of modules' own parameters and buffers, where those are not."""

    def __init__(self, modules: list[nn.Module], device: torch.device | None) -> None:
        self.modules, self.device = modules, device
        self._originals: dict[tuple[int, str], tuple[dict[str, Any], str, Tensor]] = {}

    def make(self) -> None:
        for module in self.modules:
            tables: list[dict[str, Any]] = [module._parameters, module._buffers]
            for table in tables:
                for name, value in table.items():
                    if isinstance(value, Tensor) and self._needs_copy(value):
                        self._originals.setdefault((id(table), name), (table, name, value))
                        table[name] = self._copy(value)

    def put_back(self) -> None:
        for table, name, value in self._originals.values():
            table[name] = value

    def _needs_copy(self, value: Tensor) -> bool:
        elsewhere = self.device is not None and isinstance(value, nn.Parameter) and value.device != self.device
        return value.is_inference() or elsewhere

    def _copy(self, value: Tensor) -> Tensor:
        if not isinstance(value, nn.Parameter):
            return value.detach().clone()
        return nn.Parameter(value.detach().to(self.device or value.device, copy=True), requires_grad=False)
