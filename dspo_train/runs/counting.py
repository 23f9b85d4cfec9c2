"""Count what a training step holds in memory, on a model of any family without weights.

Tensors on the meta device have shapes and lifetimes but no values: one forward pass of one image through a full-size
model takes a second or two and shows every tensor that autograd keeps. The backward pass is not run: its gradients in
flight are assumed to be as large as the activations in flight at the same place of the forward pass.

A LoRA's step runs in the weights' own type. A whole model's runs under CUDA's autocast, reproduced below because torch
has none for the meta device. Attention is one
operation that does not keep its matrix, like flash and memory-efficient attention on CUDA and torch's own on the CPU.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..lora.layers import layer_shapes

# https://docs.pytorch.org/docs/stable/amp.html: the operations of these models that CUDA's autocast converts.
LOWERED = frozenset({F.linear, F.conv1d, F.conv2d, F.conv3d, torch.matmul, torch.bmm, torch.baddbmm, torch.addmm})
RAISED = frozenset({F.group_norm, F.layer_norm, F.softmax, torch.softmax})


@dataclass(frozen=True)
class StepCount:
    """Bytes per image in one training step, without weights and adapters.

    Attributes:
        kept: by the graph, for the backward pass.
        flowing: peak of the temporary tensors beside it: in the forward pass, or in a checkpointed block that is
            recomputed.
    """

    kept: int
    flowing: int


def count_step(
    model: nn.Module,
    run: Callable[[], Tensor],
    *,
    trained: Iterable[nn.Module] | None,
    rank: int,
    dtype: torch.dtype,
    checkpointing: bool,
) -> StepCount:
    """Count one forward pass.

    Args:
        model: on the meta device, without gradients; left as found.
        run: the pass over one image, through `model`, on inputs on the meta device.
        trained: linear and convolution layers that carry a LoRA of `rank`; None if every weight is trained, under
            autocast.
        dtype: of the weights, and of autocast.
        checkpointing: by the model's own `enable_gradient_checkpointing`.
    """
    with contextlib.ExitStack() as stack:
        weights = stack.enter_context(_trained(model, trained, rank, dtype))
        if checkpointing:
            _call(model, "enable_gradient_checkpointing")
            stack.callback(_call, model, "disable_gradient_checkpointing")
        stack.enter_context(torch.device("meta"))
        return count_pass(run, weights, autocast=dtype if trained is None else torch.float32)


def count_pass(
    run: Callable[[], object], weights: Iterable[Tensor], *, autocast: torch.dtype = torch.float32
) -> StepCount:
    """Count one forward pass as it is, on tensors without values.

    Args:
        weights: whose bytes do not count.
    """
    known = {weight.untyped_storage()._cdata for weight in weights}
    live, saves = LiveBytes(known), _Saves(known)
    blocks: list[int] = []
    checkpoint = _counted_checkpoint(saves, live, blocks)
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(torch.utils.checkpoint, "checkpoint", checkpoint))
        for mode in (_Autocast(autocast), live, saves.hooks(), torch.enable_grad()):
            stack.enter_context(mode)
        run()
    return StepCount(saves.total, max([live.peak, *blocks]))


def most_alive(model: nn.Module, run: Callable[[], object], dtype: torch.dtype) -> int:
    """Peak of the bytes alive in a pass without gradients, without the weights."""
    with _as_type(model, dtype):
        live = LiveBytes({weight.untyped_storage()._cdata for weight in model.parameters()})
        with torch.device("meta"), torch.no_grad(), _Autocast(torch.float32), live:
            run()
    return live.peak


class LiveBytes(TorchDispatchMode):
    """Counts every storage that an operation allocates, as long as it lives.

    Args:
        known: storages not to count, by `_cdata`.
    """

    def __init__(self, known: Iterable[int] = ()) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known: dict[int, Any] = dict.fromkeys(known)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return

        def forget(_: object) -> None:
            self.live -= size
            del self._known[key]

        self._known[key] = weakref.ref(storage, forget)
        self.live += size
        self.peak = max(self.peak, self.live)


class _Saves:
    """Adds up what autograd saves, each storage once, and releases it, so that only temporary tensors stay alive."""

    def __init__(self, known: Iterable[int]) -> None:
        self.total = 0
        self.weights = frozenset(known)
        self._seen: dict[int, Any] = dict.fromkeys(self.weights)

    def add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._seen:
            self.total += storage.nbytes()
            # another storage may get its address later
            self._seen[key] = weakref.ref(storage, lambda _: self._seen.pop(key, None))

    def hooks(self) -> torch.autograd.graph.saved_tensors_hooks:
        def unpack(_: object) -> Tensor:
            raise AssertionError("there is no backward pass in a count")

        return torch.autograd.graph.saved_tensors_hooks(self.add, unpack)


def _counted_checkpoint(outer: _Saves, live: LiveBytes, blocks: list[int]) -> Callable[..., Any]:
    """Replaces `torch.utils.checkpoint.checkpoint`: the graph keeps only a block's inputs; what the block keeps while
    it is recomputed goes to `blocks`, together with what is in flight around it.
    """

    def checkpoint(function: Callable[..., Any], *args: Any, use_reentrant: bool = False, **kwargs: Any) -> Any:
        inputs = [argument for argument in tree_leaves((args, kwargs)) if isinstance(argument, Tensor)]
        around = live.live
        inner = _Saves(outer.weights | {tensor.untyped_storage()._cdata for tensor in inputs})
        with inner.hooks():
            result = function(*args, **kwargs)
        if any(isinstance(part, Tensor) and part.requires_grad for part in tree_leaves(result)):
            for tensor in inputs:
                outer.add(tensor)
            blocks.append(around + inner.total)
        return result

    return checkpoint


class _Autocast(TorchFunctionMode):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, mixed = kwargs or {}, self.dtype != torch.float32
        if func is F.scaled_dot_product_attention:
            query, key, value = (tensor.to(self.dtype) if mixed else tensor for tensor in args[:3])
            return _Attention.apply(query, key, value)
        if mixed and func in LOWERED:
            args, kwargs = _converted(args, kwargs, self.dtype)
        elif mixed and func in RAISED:
            args, kwargs = _converted(args, kwargs, torch.float32)
        return func(*args, **kwargs)


def _converted(args: Any, kwargs: Any, dtype: torch.dtype) -> tuple[list[Any], dict[str, Any]]:
    def convert(value: Any) -> Any:
        return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value

    return [convert(value) for value in args], {name: convert(value) for name, value in kwargs.items()}


class _Attention(torch.autograd.Function):
    """Keeps its inputs, its result and one float32 for each row and head, as flash attention does."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        batch, heads, rows, _ = query.shape
        result = query.new_empty(batch, rows, heads, value.shape[-1]).transpose(1, 2)
        ctx.save_for_backward(query, key, value, result, query.new_empty(batch, heads, rows, dtype=torch.float32))
        return result


@contextlib.contextmanager
def _trained(
    model: nn.Module, layers: Iterable[nn.Module] | None, rank: int, dtype: torch.dtype
) -> Iterator[list[Tensor]]:
    """Inside, the model is set up as in training. -> its weights and the adapters'"""
    with _as_type(model, dtype), contextlib.ExitStack() as stack:
        weights: list[Tensor] = list(model.parameters())
        if layers is None:
            model.requires_grad_(True)
            stack.callback(model.requires_grad_, False)
        for layer in layers or ():
            down, up = (nn.Parameter(torch.empty(s, device="meta", dtype=dtype)) for s in layer_shapes(layer, rank))
            weights += [down, up]
            stack.callback(layer.register_forward_hook(_adapted(down, up)).remove)
        yield weights


def _adapted(down: Tensor, up: Tensor) -> Callable[..., Tensor]:
    def hook(layer: Any, args: tuple[Tensor, ...], result: Tensor) -> Tensor:
        (given,) = args
        if isinstance(layer, nn.Conv2d):
            return result + F.conv2d(F.conv2d(given, down, None, layer.stride, layer.padding), up)  # type: ignore[arg-type]
        return result + F.linear(F.linear(given, down), up)

    return hook


@contextlib.contextmanager
def _as_type(model: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    before = next(model.parameters()).dtype
    nn.Module.to(model, dtype)
    try:
        yield
    finally:
        nn.Module.to(model, before)


def _call(model: Any, method: str) -> None:
    getattr(model, method)()
