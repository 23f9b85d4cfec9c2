"""The images that each step sees, and their noise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor

from ..config import DataSpec
from ..images.buckets import Bucket
from ..models.conditioning import Conditioning, Frame
from ..models.process import Process
from . import draws
from .batch import Batch
from .encodings import Encodings

_Row = TypeVar("_Row")  # identifies the two images of a row


@lru_cache(maxsize=2)
def epoch_order(buckets: tuple[object, ...], per_step: int, seed: int, epoch: int) -> tuple[int, ...]:
    """A shuffled order of all pairs in which most steps hold images of one shape.

    The pairs of each bucket are shuffled and dealt into steps; what is left over from all buckets is dealt together.
    The order is padded from its own beginning to a whole number of steps, so every step has `per_step` pairs.

    Args:
        buckets: the bucket of each pair.
        per_step: pairs per optimiser step, all processes together.
    """
    generator = draws.generator(seed, "epoch", epoch)
    by_bucket: dict[object, list[int]] = defaultdict(list)
    for i in torch.randperm(len(buckets), generator=generator).tolist():
        by_bucket[buckets[i]].append(i)
    full, rest = [], []
    for bucket in sorted(by_bucket, key=str):
        members = by_bucket[bucket]
        whole = len(members) - len(members) % per_step
        full += [members[i : i + per_step] for i in range(0, whole, per_step)]
        rest += members[whole:]
    full = [full[i] for i in torch.randperm(len(full), generator=generator).tolist()]
    order = [i for step in full for i in step] + rest
    missing = -len(order) % per_step
    return tuple(order + [order[i % len(order)] for i in range(missing)])


@dataclass(frozen=True)
class Share:
    """The rows of each step that this process draws.

    Attributes:
        rows: per step and process.
        at_once: most rows in one forward pass.
        process, processes: the index of this process, and how many there are.
    """

    rows: int
    at_once: int
    process: int = 0
    processes: int = 1

    @property
    def per_step(self) -> int:
        """Rows per step, all processes together."""
        return self.rows * self.processes


@dataclass(frozen=True)
class Drawn:
    """Latents that share their randomness, (n, C, h, w); their noise, (C, h, w), 0-d time and caption."""

    clean: Tensor
    noise: Tensor
    time: Tensor
    caption: Path


@dataclass(frozen=True, kw_only=True)
class Source(ABC, Generic[_Row]):
    """What a run draws from; every draw is a function of (seed, step, position in the step).

    Subclasses draw from pairs or from unpaired images. A row of a batch holds two images in either case.

    Attributes:
        words_every: steps between those whose batches have other captions too; 0 for none.
    """

    encodings: Encodings
    process: Process
    data: DataSpec
    seed: int
    share: Share
    words_every: int = 0

    @property
    def per_step(self) -> int:
        return self.share.per_step

    @property
    def figures(self) -> Mapping[str, float]:
        """What else there is to say of the step that was drawn last."""
        return {}

    def step(self, step: int) -> Iterator[Batch]:
        """This process's batches of a step (counted from 0), each of one shape."""
        for rows in self.groups(step):
            yield self._batch(step, rows)

    def groups(self, step: int) -> Iterator[Sequence[tuple[int, _Row]]]:
        """This process's rows of a step with their positions in it, those of one shape together."""
        first, size = self.share.process * self.share.rows, self.share.at_once
        by_bucket: dict[Bucket, list[tuple[int, _Row]]] = defaultdict(list)
        for position, row in enumerate(self.indices(step)[first : first + self.share.rows], first):
            by_bucket[self._bucket(row)].append((position, row))
        for rows in by_bucket.values():
            for start in range(0, len(rows), size):
                yield rows[start : start + size]

    @abstractmethod
    def indices(self, step: int) -> tuple[_Row, ...]:
        """The images in each row of a step, for all processes. -> per_step"""

    @abstractmethod
    def _bucket(self, row: _Row) -> Bucket: ...

    @abstractmethod
    def _batch(self, step: int, rows: Sequence[tuple[int, _Row]]) -> Batch:
        """Draw a batch from rows of one shape, given with their positions in the step."""

    @abstractmethod
    def captions(self) -> tuple[Path, ...]:
        """The files of all different captions, in the order of their first use."""

    def others(self, step: int, rows: Sequence[tuple[int, Path, Frame]]) -> Conditioning | None:
        """For each row's position, winner's caption and frame another caption: any of the set's, or the empty one where
        there is no other. -> B rows; None at a step without.
        """
        if not self.words_every or step % self.words_every:
            return None
        chosen = [self._other(step, position, caption) for position, caption, _ in rows]
        return self.encodings.conditioning(chosen, [frame for _, _, frame in rows])

    def _other(self, step: int, position: int, caption: Path) -> Path:
        unlike = [other for other in self.captions() if other != caption] or [self.encodings.empty_caption]
        return unlike[draws.number(self.seed, "other words", step, position) % len(unlike)]

    def _in_order(self, buckets: tuple[Bucket, ...], step: int) -> tuple[int, tuple[int, ...]]:
        """The epoch of a step, and which of the epoch's rows it holds; `buckets` are those of the rows."""
        epoch, offset = divmod(step, -(-len(buckets) // self.per_step))
        order = epoch_order(buckets, self.per_step, self.seed, epoch)
        return epoch, order[offset * self.per_step : (offset + 1) * self.per_step]

    def _drawn(self, generator: torch.Generator, images: Sequence[Path], caption: Path) -> Drawn:
        """Draw for images that share all randomness."""
        chance = torch.rand(2, generator=generator)
        view = "flipped" if self.data.flip and chance[0] < 0.5 else "plain"
        caption = self.encodings.empty_caption if chance[1] < self.data.caption_dropout else caption
        time = self.process.draw(generator, self.data.least_noise, self.data.most_noise)
        clean, noise = self.encodings.latents(self.encodings.moments(images, view), generator)
        return Drawn(clean, noise, time, caption)
