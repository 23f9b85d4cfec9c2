"""The best rank-r LoRA approximation of a full fine-tune, layer by layer.

The difference between a layer's weights after and before, as a matrix, is truncated to its largest singular values; by
Eckart and Young (1936) no other matrix of that rank is nearer. Up and down each get the square roots of the singular
values, so that both have the same scale; alpha is the rank, so that the LoRA's factor alpha / rank is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..config import Targets
from ..exceptions import LoraFileError
from .layers import TARGETS, LoraLayer, LoraWeights

StateDict = Mapping[str, Tensor]

_EXACT = 640  # rows or columns up to which the exact decomposition takes a fraction of a second
_OVERSAMPLING = 32  # extra directions of the randomised decomposition (Halko et al. 2011)
_PASSES = 8  # power iterations of the same


@dataclass(frozen=True)
class Extracted:
    """A LoRA and how much of the fine-tune it holds.

    Attributes:
        weights: without the layers that training did not change.
        kept: share of the targeted layers' squared change that the LoRA reproduces, 0 to 1.
        targeted: share of all weights' squared change that is in the targeted layers.
    """

    weights: LoraWeights
    kept: float
    targeted: float


def extract(before: nn.Module | StateDict, after: nn.Module | StateDict, targets: Targets, rank: int) -> Extracted:
    """Turn a fine-tune into a LoRA on its base.

    Computed on the device of `after`'s tensors; the same input gives the same LoRA.

    Args:
        before, after: a UNet or its `state_dict`, by diffusers' names, of any floating type.
        targets: the layers that get an adapter, as in `LoraSpec`.
        rank: of every layer that allows it; a smaller layer gets its full rank.

    Raises:
        LoraFileError: the models' tensors do not match, none of the targeted layers exist, or none of them changed.
    """
    old, new = _state(before), _state(after)
    _refuse_unlike(old, new)
    pattern = TARGETS[targets]
    weights: dict[str, LoraLayer] = {}
    seen, total, targeted, error = 0, 0.0, 0.0, 0.0
    for name, value in new.items():
        difference = value.detach().float() - old[name].detach().to(value.device, torch.float32)
        size = _squared(difference)
        total += size
        path, _, leaf = name.rpartition(".")
        if leaf != "weight" or not pattern.fullmatch(path):
            continue
        seen += 1
        targeted += size
        if size > 0:
            weights[path], missed = factored(difference, rank)
            error += missed
    if not seen:
        raise LoraFileError(
            f"the models have none of the layers that `lora.targets` {targets!r} names; there is nothing to extract"
        )
    if not weights:
        raise LoraFileError(
            f"both models have the same weights in all {seen} layers that `lora.targets` {targets!r} names; there is "
            "nothing to extract. Give the base and the model that was trained from it"
        )
    return Extracted(weights, kept=max(0.0, 1 - error / targeted), targeted=targeted / total)


def factored(difference: Tensor, rank: int) -> tuple[LoraLayer, float]:
    """The nearest update of a given rank, on the CPU, and the squared norm of what it misses.

    Args:
        difference: (out, in), or (out, in, kernel, kernel) of a convolution.
    """
    matrix = difference.flatten(1)
    rank = min(rank, *matrix.shape)
    left, values, right = _decomposed(matrix, rank)  # (out, rank), (rank,), (in, rank)
    root = values.sqrt()
    up, down = left * root, (right * root).T
    missed = _squared(matrix - up @ down)
    one = (1,) * (difference.ndim - 2)
    layer = LoraLayer(
        down=down.reshape(rank, *difference.shape[1:]).cpu().contiguous(),
        up=up.reshape(-1, rank, *one).cpu().contiguous(),
        alpha=float(rank),
    )
    return layer, missed


def _decomposed(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """The largest singular values with their vectors: exact for small matrices, else by a seeded projection."""
    smaller = min(matrix.shape)
    if smaller <= max(_EXACT, rank + _OVERSAMPLING):
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        return left[:, :rank], values[:rank], right[:rank].T
    cuda = matrix.device.type == "cuda"
    with torch.random.fork_rng([matrix.device.index or 0] if cuda else []):
        torch.manual_seed(0)
        left, values, right = torch.svd_lowrank(matrix, q=rank + _OVERSAMPLING, niter=_PASSES)
    return left[:, :rank], values[:rank], right[:, :rank]


def _state(model: nn.Module | StateDict) -> StateDict:
    return model.state_dict() if isinstance(model, nn.Module) else model


def _refuse_unlike(old: StateDict, new: StateDict) -> None:
    if odd := sorted(old.keys() ^ new.keys()):
        raise LoraFileError(
            f"only one of the models has {odd[0]!r} ({len(odd)} such tensors in all); give the base and the model that "
            "was trained from it"
        )
    for name, value in new.items():
        if old[name].shape != value.shape:
            raise LoraFileError(
                f"{name} is {tuple(old[name].shape)} in one model and {tuple(value.shape)} in the other; give the "
                "base and the model that was trained from it"
            )


def _squared(values: Tensor) -> float:
    return float(values.square().sum(dtype=torch.float64))
