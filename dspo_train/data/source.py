"""Which pictures a step sees, and with which noise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor

from ..config import DataSpec
from ..images.buckets import Bucket
from ..models.conditioning import Conditioning
from ..models.process import NoiseProcess
from ..training.forward import Batch, PairBatch
from . import draws
from .cache import EncodedPair, EncodingCache, TimeIds, read_captions

Row = TypeVar("Row")  # what tells which pictures stand side by side
Made = TypeVar("Made", bound=Batch, covariant=True)


@lru_cache(maxsize=2)
def epoch_order(buckets: tuple[object, ...], per_step: int, seed: int, epoch: int) -> tuple[int, ...]:
    """A shuffled order of all pairs, cut so that most steps hold pictures of one shape.

    Pairs of each bucket are shuffled and dealt into steps; what is left over of all buckets is dealt together.
    The order is filled up from its own beginning to a whole number of steps, so every step has `per_step` pairs.

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


@dataclass(frozen=True, kw_only=True)
class Source(ABC, Generic[Row, Made]):
    """Where a training draws from; every draw is a function of (seed, step, position in the step).

    Below it are the pairs, and the pictures without partners. A row of a batch holds two pictures of either.

    Attributes:
        per_process: rows per step and process.
        largest: rows in one forward pass at most.
        process, processes: which part of each step is drawn here.
        scaling, shift: the VAE's, to model units.
        sized: whether the model wants SDXL's size conditioning.
        empty_caption: file for captions that were dropped.
    """

    cache: EncodingCache
    noise: NoiseProcess
    data: DataSpec
    seed: int
    per_process: int
    largest: int
    scaling: float
    shift: float
    sized: bool
    empty_caption: Path
    process: int = 0
    processes: int = 1

    @property
    def per_step(self) -> int:
        return self.per_process * self.processes

    def step(self, step: int) -> Iterator[Made]:
        """This process's batches of a step (counted from 0), each of one shape."""
        first = self.process * self.per_process
        by_bucket: dict[Bucket, list[tuple[int, Row]]] = defaultdict(list)
        for position, row in enumerate(self.indices(step)[first : first + self.per_process], first):
            by_bucket[self._bucket(row)].append((position, row))
        for rows in by_bucket.values():
            for start in range(0, len(rows), self.largest):
                yield self._batch(step, rows[start : start + self.largest])

    @abstractmethod
    def indices(self, step: int) -> tuple[Row, ...]:
        """Which pictures are in each row of a step, for all processes. -> per_step"""

    @abstractmethod
    def _bucket(self, row: Row) -> Bucket: ...

    @abstractmethod
    def _batch(self, step: int, rows: Sequence[tuple[int, Row]]) -> Made:
        """Rows with their positions in the step, all of one shape."""

    def _in_order(self, buckets: tuple[Bucket, ...], step: int) -> tuple[int, tuple[int, ...]]:
        """The epoch that a step lies in, and which of the epoch's rows it holds; `buckets` are theirs."""
        epoch, offset = divmod(step, -(-len(buckets) // self.per_step))
        order = epoch_order(buckets, self.per_step, self.seed, epoch)
        return epoch, order[offset * self.per_step : (offset + 1) * self.per_step]

    def _drawn(
        self, generator: torch.Generator, pictures: Sequence[Path], caption: Path
    ) -> tuple[Tensor, Tensor, Tensor, Path]:
        """Latents of pictures that share whatever is drawn, the noise and timestep for them, and their caption."""
        chance = torch.rand(2, generator=generator)
        view = "flipped" if self.data.flip and chance[0] < 0.5 else "plain"
        caption = self.empty_caption if chance[1] < self.data.caption_dropout else caption
        timestep = draw_timestep(self.noise.steps, self.data, generator)
        clean, noise = self.latents(self.moments(pictures, view), generator)
        return clean, noise, timestep, caption

    def moments(self, pictures: Sequence[Path], view: str) -> Tensor:
        """The VAE's, of pictures of one shape. -> (N, 2C, h, w)"""
        return torch.stack([self.cache.read(path)[view] for path in pictures])

    def latents(self, moments: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """One draw from each posterior, all by the same numbers, and noise to add. -> (N, C, h, w), (C, h, w)"""
        latent = (moments.shape[1] // 2, *moments.shape[2:])
        noise, posterior = torch.randn((2, *latent), generator=generator)
        return latents_from_moments(moments, posterior, scaling=self.scaling, shift=self.shift), noise

    def conditioning(self, captions: Sequence[Path], time_ids: Sequence[TimeIds]) -> Conditioning:
        """Of captions, and of sizes where the model wants them. -> N"""
        found = read_captions(self.cache, captions)
        return found.with_time_ids(torch.tensor(time_ids, dtype=torch.float32)) if self.sized else found


@dataclass(frozen=True)
class PairSource(Source[int, PairBatch]):
    """Batches of encoded pairs; a row is a pair's index."""

    pairs: Sequence[EncodedPair]

    def indices(self, step: int) -> tuple[int, ...]:
        """The pairs of a step, for all processes. -> per_step"""
        return self._in_order(tuple(pair.bucket for pair in self.pairs), step)[1]

    def _bucket(self, row: int) -> Bucket:
        return self.pairs[row].bucket

    def _batch(self, step: int, rows: Sequence[tuple[int, int]]) -> PairBatch:
        drawn = [self._draw(step, position, self.pairs[row]) for position, row in rows]
        clean, noises, timesteps, captions = zip(*drawn, strict=True)
        winners, losers = torch.stack(clean, dim=1)
        conditioning = self.conditioning(captions, [self.pairs[row].time_ids for _, row in rows])
        return PairBatch(winners, losers, torch.stack(noises), torch.stack(timesteps), conditioning)

    def _draw(self, step: int, position: int, pair: EncodedPair) -> tuple[Tensor, Tensor, Tensor, Path]:
        """One pair's latents and randomness; whatever is drawn serves winner and loser alike."""
        return self._drawn(draws.generator(self.seed, "pair", step, position), (pair.winner, pair.loser), pair.caption)


def draw_timestep(steps: int, data: DataSpec, generator: torch.Generator) -> Tensor:
    """Uniform over the part of the schedule that the settings ask for. -> 0-d int64"""
    first, last = int(data.least_noise * steps), max(int(data.most_noise * steps), int(data.least_noise * steps) + 1)
    return torch.randint(first, last, (), generator=generator)


def latents_from_moments(moments: Tensor, noise: Tensor, *, scaling: float, shift: float = 0.0) -> Tensor:
    """A draw from the posterior in model units: (mean + std noise - shift) scaling. -> (..., C, h, w)"""
    mean, log_variance = moments.chunk(2, dim=-3)
    return (mean + (log_variance / 2).exp() * noise - shift) * scaling
