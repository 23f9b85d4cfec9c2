"""Make gradients flow through a network of ComfyUI's, and take everything back afterwards."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import comfy.model_management as mm
import torch
from torch import Tensor, nn
from torch.utils import checkpoint

from .frozen import frozen_layers, replaced_forward

_FUSED = re.compile(r"(apply|rms)_rope\w*[^_]|rms_adaln")  # without a gradient; names that end in _ write in place
_BLOCKS = ("transformer_blocks", "blocks")


def can_train_flow() -> bool:
    """Does this core switch to kernels that have a gradient? Those of flow models need it."""
    return hasattr(mm, "in_training")


@contextmanager
def differentiable(
    network: nn.Module, *, device: torch.device | None = None, checkpointing: bool = False, virtual: bool = False
) -> Iterator[Callable[[], None]]:
    """Inside, gradients flow through a network and its weights get none. Every norm gets a copy of its input, because
    some models write into their residual stream afterwards.

    Args:
        device: see `frozen_layers`, as for `virtual` and what is yielded.
        checkpointing: keep only each block's input, and compute the block again in the backward pass.
    """
    with ExitStack() as stack:
        stack.enter_context(_plain_kernels())
        refresh = stack.enter_context(frozen_layers(network, device=device, virtual=virtual))
        for module in network.modules():
            if "Norm" in type(module).__name__:
                stack.callback(module.register_forward_pre_hook(_copied).remove)
        for block in blocks(network) if checkpointing else ():
            stack.enter_context(replaced_forward(block, _recomputed(block.forward)))
        yield refresh


def torch_attention(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Overrides attention in `transformer_options`: some of ComfyUI's kernels have no gradient, torch's has."""
    from comfy.ldm.modules.attention import attention_pytorch

    return attention_pytorch(*args, **kwargs)


def blocks(network: nn.Module) -> list[nn.Module]:
    """The modules to recompute: what stands in the lists of a network, or in a list of blocks further inside."""
    found: list[nn.Module] = []
    for child in network.children():
        members = list(child.children()) if isinstance(child, nn.ModuleList) else []
        for member in members or ([child] if isinstance(child, nn.Sequential) else []):
            found += _inner(member)
    return found


def _inner(module: nn.Module) -> list[nn.Module]:
    if isinstance(module, nn.Sequential):
        return [inner for child in module.children() for inner in _inner(child)]
    for name in _BLOCKS:
        if isinstance(inside := getattr(module, name, None), nn.ModuleList):
            return list(inside)
    return [module] if any(True for _ in module.children()) else []


def _recomputed(plain: Callable[..., Any]) -> Callable[..., Any]:
    """A block that keeps its inputs only, and writes into copies of them; its options are those of this call."""

    def run(*args: Any, **kwargs: Any) -> Any:
        return plain(*map(_copy, args), **{name: _copy(value) for name, value in kwargs.items()})

    def forward(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return plain(*args, **kwargs)
        options = {name: dict(value) if isinstance(value, dict) else value for name, value in kwargs.items()}
        return checkpoint.checkpoint(run, *args, use_reentrant=False, **options)

    return forward


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) and value.is_floating_point() else value


def _copied(module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...] | None:
    return tuple(map(_copy, given)) if torch.is_grad_enabled() and given[0].requires_grad else None


@contextmanager
def _plain_kernels() -> Iterator[None]:
    """Inside, ComfyUI's fused kernels without a gradient are replaced by their own versions in plain torch."""
    before = getattr(mm, "in_training", None)
    replaced: list[tuple[Any, str, Any]] = []
    try:
        import comfy_kitchen
        from comfy_kitchen.backends import eager
    except ImportError:  # an older core
        pass
    else:
        for name in filter(_FUSED.fullmatch, dir(comfy_kitchen)):
            if plain := getattr(eager, name, None):
                replaced.append((comfy_kitchen, name, getattr(comfy_kitchen, name)))
                setattr(comfy_kitchen, name, plain)
    if before is not None:
        mm.in_training = True
    try:
        yield
    finally:
        if before is not None:
            mm.in_training = before
        for module, name, fused in replaced:
            setattr(module, name, fused)
