"""What a denoiser is conditioned on: named tensors, one row per image. Only the family knows the names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Frame(NamedTuple):
    """The part of its original that an image shows: original size, crop corner and crop size, in pixels."""

    height: int
    width: int
    top: int
    left: int
    crop_height: int
    crop_width: int


@dataclass(frozen=True)
class Conditioning:
    """The conditioning of N images.

    Attributes:
        tensors: at least one, by name, (N, ...) each.
    """

    tensors: Mapping[str, Tensor]

    def __len__(self) -> int:
        return next(iter(self.tensors.values())).shape[0]

    def __getitem__(self, rows: slice) -> Conditioning:
        return Conditioning({name: tensor[rows] for name, tensor in self.tensors.items()})

    def to(self, device: torch.device | str) -> Conditioning:
        """Move every tensor. Casting is left to the family, as some tensors must stay exact."""
        return Conditioning({name: tensor.to(device) for name, tensor in self.tensors.items()})

    def twice(self) -> Conditioning:
        """The same conditioning for winners and then for losers: N -> 2N."""
        return cat([self, self])

    def adding(self, tensors: Mapping[str, Tensor]) -> Conditioning:
        """With further tensors, moved to the device of the present ones."""
        device = next(iter(self.tensors.values())).device
        return Conditioning({**self.tensors, **{name: tensor.to(device) for name, tensor in tensors.items()}})


def cat(parts: Sequence[Conditioning]) -> Conditioning:
    """Join batches along N. Where tensors of one name differ in length, the shorter ones are padded with zeros at the
    end; how much of a row counts is then for its model to know.

    >>> len(cat([Conditioning({"text": torch.zeros(2, 77, 8)}), Conditioning({"text": torch.zeros(1, 77, 8)})]))
    3

    Raises:
        ValueError: the parts have different names.
    """
    names = parts[0].tensors.keys()
    for part in parts:
        if part.tensors.keys() != names:
            raise ValueError(f"conditioning with {sorted(names)} cannot be joined to one with {sorted(part.tensors)}")
    return Conditioning({name: _joined([part.tensors[name] for part in parts]) for name in names})


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    shapes = {tuple(tensor.shape[1:]) for tensor in tensors}
    if len(shapes) > 1:
        longest = [max(lengths) for lengths in zip(*shapes, strict=True)]
        tensors = [_padded(tensor, longest) for tensor in tensors]
    return torch.cat(list(tensors))


def _padded(tensor: Tensor, longest: Sequence[int]) -> Tensor:
    missing = [wanted - length for wanted, length in zip(longest, tensor.shape[1:], strict=True)]
    return F.pad(tensor, [side for behind in reversed(missing) for side in (0, behind)])
