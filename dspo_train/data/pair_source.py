"""Batches of encoded pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch

from ..images.buckets import Bucket
from ..models.conditioning import Frame
from . import draws
from .batch import Batch
from .source import Drawn, Source


@dataclass(frozen=True)
class EncodedPair:
    """The files with a pair's encodings.

    Attributes:
        key: the pair's own, unique in its folder.
        content: hash of the pair's name, caption and both images, independent of the encoder.
        bucket: size in pixels that both images were cropped to.
        winner, loser: files with the VAE's moments, (2C, h, w); with flips, also those of the mirrored pixels.
        caption: file with the text embeddings.
        frame: the winner's for both images, so that size conditioning cannot distinguish them.
        doubt: the share of its label that is believed wrong.
        prompt: as it was given.
    """

    key: str
    content: str
    bucket: Bucket
    winner: Path
    loser: Path
    caption: Path
    frame: Frame
    doubt: float = 0.0
    prompt: str = ""


@dataclass(frozen=True, kw_only=True)
class PairSource(Source[int]):
    """A row is a pair's index; winner and loser share noise, time, flip and caption."""

    pairs: Sequence[EncodedPair]

    def indices(self, step: int) -> tuple[int, ...]:
        """The indices of a step's pairs, for all processes. -> per_step"""
        return self._in_order(tuple(pair.bucket for pair in self.pairs), step)[1]

    def _bucket(self, row: int) -> Bucket:
        return self.pairs[row].bucket

    def _batch(self, step: int, rows: Sequence[tuple[int, int]]) -> Batch:
        drawn = [self._draw(step, position, self.pairs[row]) for position, row in rows]
        clean = torch.stack([each.clean for each in drawn], dim=1).flatten(0, 1)  # winners before losers
        conditioning = self.encodings.conditioning(
            [each.caption for each in drawn], [self.pairs[row].frame for _, row in rows]
        )
        batch = Batch.of(
            self.process,
            clean,
            torch.stack([each.noise for each in drawn]).repeat(2, 1, 1, 1),
            torch.stack([each.time for each in drawn]).repeat(2),
            conditioning.twice(),
        )
        words = [(p, each.caption, self.pairs[row].frame) for (p, row), each in zip(rows, drawn, strict=True)]
        doubt = torch.tensor([self.pairs[row].doubt for _, row in rows])
        return replace(batch, others=self.others(step, words), doubt=doubt if bool(doubt.any()) else None)

    def captions(self) -> tuple[Path, ...]:
        """See `Source.captions`."""
        return self._captions

    @cached_property
    def _captions(self) -> tuple[Path, ...]:
        return tuple(dict.fromkeys(pair.caption for pair in self.pairs))

    def _draw(self, step: int, position: int, pair: EncodedPair) -> Drawn:
        generator = draws.generator(self.seed, "pair", step, position)
        return self._drawn(generator, (pair.winner, pair.loser), pair.caption)
