"""What one forward pass sees: the only form of data between a dataset and the loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..models.conditioning import Conditioning, cat
from ..models.process import Process


@dataclass(frozen=True)
class Batch:
    """B winners and B losers of one shape, winners first, with all randomness drawn: the loss is a function of it.

    Winner and loser of a row may share noise, time and caption, as pairs do, or nothing at all.

    Attributes:
        noisy: x_t, (2B, C, h, w).
        target: what the model should predict for it, (2B, C, h, w).
        t: the process's times, (2B,).
        conditioning: of 2B images.
        others: other captions for the B winners, where what the words do is held; see `training.words`.
        doubt: the share of each row's label that is believed wrong, (B,); None where all are trusted.
        scale: by which each row's errors are multiplied, (B,); None for 1.
        twins: whether winners and losers are one and the same x_t, with other targets, so that half is predicted.
    """

    noisy: Tensor
    target: Tensor
    t: Tensor
    conditioning: Conditioning
    others: Conditioning | None = None
    doubt: Tensor | None = None
    scale: Tensor | None = None
    twins: bool = False

    @classmethod
    def of(cls, process: Process, clean: Tensor, noise: Tensor, t: Tensor, conditioning: Conditioning) -> Batch:
        """From clean latents in model units and noise, (2B, C, h, w) each, and 2B times."""
        noisy, target = process.sample(clean, noise, t)
        return cls(noisy, target, t, conditioning)

    def __len__(self) -> int:
        """B, the number of rows."""
        return self.noisy.shape[0] // 2

    @property
    def row_times(self) -> Tensor:
        """The winners' times, which are the losers' too if a row shares its time. (B,)"""
        return self.t[: len(self)]

    def to(self, device: torch.device | str) -> Batch:
        """Move every tensor; the model casts to its own precision."""
        moved = {
            name: value.to(device) for name, value in vars(self).items() if isinstance(value, (Tensor, Conditioning))
        }
        return replace(self, **moved)


def joined(batches: Sequence[Batch]) -> Batch:
    """Join batches of one shape, keeping the order of their rows."""

    def sides(parts: Sequence[Tensor]) -> Tensor:
        halves = [part.chunk(2) for part in parts]
        return torch.cat([winners for winners, _ in halves] + [losers for _, losers in halves])

    conditioning = [batch.conditioning[: len(batch)] for batch in batches]
    conditioning += [batch.conditioning[len(batch) :] for batch in batches]
    return Batch(
        sides([batch.noisy for batch in batches]),
        sides([batch.target for batch in batches]),
        sides([batch.t for batch in batches]),
        cat(conditioning),
    )
