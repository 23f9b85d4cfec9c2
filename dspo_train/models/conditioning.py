"""What a denoiser is conditioned on, for a batch of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Conditioning:
    """Text (and, for SDXL, size) conditioning of N images.

    Attributes:
        context: token embeddings for cross-attention, (N, L, D).
        pooled: SDXL's pooled text embedding, (N, P), or None.
        time_ids: SDXL's micro-conditioning (original height, original width, crop top, crop left,
            target height, target width) in pixels, (N, 6), or None.
    """

    context: Tensor
    pooled: Tensor | None = None
    time_ids: Tensor | None = None

    def __len__(self) -> int:
        return self.context.shape[0]

    def __getitem__(self, rows: slice) -> Conditioning:
        return Conditioning(
            self.context[rows],
            None if self.pooled is None else self.pooled[rows],
            None if self.time_ids is None else self.time_ids[rows],
        )

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Conditioning:
        """Move every tensor; `dtype` applies to all but `time_ids`, whose pixel counts stay float32."""
        return Conditioning(
            self.context.to(device, dtype),
            None if self.pooled is None else self.pooled.to(device, dtype),
            None if self.time_ids is None else self.time_ids.to(device, torch.float32),
        )

    def twice(self) -> Conditioning:
        """The same conditioning for winners and then for losers: (N, ...) -> (2N, ...)."""
        return cat([self, self])

    def with_time_ids(self, time_ids: Tensor | None) -> Conditioning:
        return Conditioning(self.context, self.pooled, time_ids)


def cat(parts: Sequence[Conditioning]) -> Conditioning:
    """Join batches along N. All parts have the same optional tensors.

    >>> len(cat([Conditioning(torch.zeros(2, 77, 8)), Conditioning(torch.zeros(1, 77, 8))]))
    3
    """
    pooled = [p.pooled for p in parts if p.pooled is not None]
    time_ids = [p.time_ids for p in parts if p.time_ids is not None]
    return Conditioning(
        torch.cat([p.context for p in parts]),
        torch.cat(pooled) if pooled else None,
        torch.cat(time_ids) if time_ids else None,
    )
