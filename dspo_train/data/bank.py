"""The fixed draws at which held-out pairs are measured.

The bank is a ruler: it depends only on the seed and on each pair. Flips, dropped captions and the trained part of the
schedule do not affect it, so the figures of two steps, or of two runs, are directly comparable.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, islice

import torch
from torch import Tensor

from ..exceptions import ConfigError
from . import draws
from .batch import Batch, joined
from .pair_source import EncodedPair, PairSource

QUARTERS = 4


@dataclass(frozen=True)
class Bank:
    """The fixed draws at which held-out pairs are measured.

    A draw is a function of (seed, the pair's content, the draw's number): neither other pairs nor their order matter.
    A pair's draws cycle through the quarters of the schedule, from a quarter of its own, and lie anywhere within them.

    Attributes:
        source: of the held-out pairs; its settings for training draws (flip, dropout, range) do not apply.
        draws: times and noises per pair; with a multiple of four, every quarter is drawn equally often.
    """

    source: PairSource
    draws: int

    def __post_init__(self) -> None:
        if not self.source.pairs:
            raise ConfigError("there are no held-out pairs to measure on; raise `held_out.share`, or set it to 0")
        if self.draws < 1:
            raise ConfigError(f"`held_out.draws` must be at least 1, got {self.draws}")

    def batches(self) -> Iterator[Batch]:
        """All draws, each pair's together, in batches of one shape with as many rows as the source allows."""
        in_order = sorted(self.source.pairs, key=lambda pair: (pair.bucket, pair.content))
        for _, pairs in groupby(in_order, key=lambda pair: pair.bucket):
            rows = (row for pair in pairs for row in self.of(pair))
            while batch := list(islice(rows, self.source.share.at_once)):
                yield joined(batch)

    def of(self, pair: EncodedPair) -> Iterator[Batch]:
        """The draws of one pair, one row each."""
        source, encodings = self.source, self.source.encodings
        conditioning = encodings.conditioning([pair.caption], [pair.frame]).twice()
        moments = encodings.moments([pair.winner, pair.loser], "plain")
        for number in range(self.draws):
            generator = draws.generator(source.seed, "held-out draw", pair.content, number)
            time = self._time(pair, number, generator)
            clean, noise = encodings.latents(moments, generator)
            yield Batch.of(source.process, clean, noise.expand_as(clean), time.repeat(2), conditioning)

    def _time(self, pair: EncodedPair, number: int, generator: torch.Generator) -> Tensor:
        first = draws.number(self.source.seed, "held-out quarter", pair.content)
        quarter = (first + number) % QUARTERS
        return self.source.process.draw_evenly(generator, quarter / QUARTERS, (quarter + 1) / QUARTERS)

    def quarters(self, batch: Batch) -> Tensor:
        """The quarter of the schedule that each row is in; 0 has the least noise. -> (B,) int64"""
        return (self.source.process.position(batch.row_times) * QUARTERS).long().clamp(max=QUARTERS - 1)
