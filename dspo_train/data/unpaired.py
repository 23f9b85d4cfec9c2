"""Training data without pairs: liked and disliked pictures encoded, and drawn side by side.

A row of a batch joins one liked and one disliked picture of the same shape that need not have anything else in common.
Each has its own caption, noise and timestep. Both sides are drawn equally often; Diffusion-KTO (Li et al. 2024), whose
authors draw 0.8 of theirs liked, expresses that as the objective's weight.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import torch
from torch import Tensor

from .. import files
from ..config import DataSpec
from ..images.buckets import Bucket, make_buckets
from ..images.shared_buckets import shared_buckets
from ..models.conditioning import Conditioning
from ..pairs import OpinionScan
from ..training.forward import Stacked
from . import draws
from .batches import Source
from .cache import Encoder, EncodingCache, Progress, TimeIds, Wanted, encode


@dataclass(frozen=True)
class EncodedOpinion:
    """Where a picture's encodings lie.

    Attributes:
        key: the opinion's own, unique in its folder.
        content: hash of the picture's name, caption, file and side, whatever the encoder.
        bucket: size in pixels that the picture was cut to.
        picture: file with the VAE's moments, (2C, h, w); with flips, also those of the mirrored pixels.
        caption: file with the text embeddings.
        time_ids: SDXL's size conditioning, the picture's own.
    """

    key: str
    content: str
    liked: bool
    bucket: Bucket
    picture: Path
    caption: Path
    time_ids: TimeIds


def encode_opinions(
    scan: OpinionScan,
    encoder: Encoder,
    cache: EncodingCache,
    data: DataSpec,
    *,
    seed: int,
    share: tuple[int, int] = (0, 1),
    on_progress: Progress = lambda done, total: None,
) -> list[EncodedOpinion]:
    """Make what the cache lacks and say where everything lies, the liked before the disliked.

    A picture that is part of a pair elsewhere is encoded once, where its crop is the same. Arguments and further
    errors as of `cache.encode`.

    Raises:
        DatasetError: one side is empty.
    """
    opinions = scan.usable()
    buckets = make_buckets(data.resolution, data.bucket_step, data.max_aspect)
    liked, disliked = shared_buckets([o.size for o in scan.liked], [o.size for o in scan.disliked], buckets)
    wanted = [
        Wanted(opinion.key, opinion.prompt, (opinion.picture,), opinion.size, bucket)
        for opinion, bucket in zip(opinions, liked + disliked, strict=True)
    ]
    found = encode(wanted, encoder, cache, data, seed=seed, share=share, on_progress=on_progress)
    return [
        EncodedOpinion(
            key=item.key,
            content=files.digest(item.key, item.prompt, *encoded.hashes, opinion.liked),
            liked=opinion.liked,
            bucket=item.bucket,
            picture=encoded.pictures[0],
            caption=encoded.caption,
            time_ids=encoded.time_ids,
        )
        for opinion, item, encoded in zip(opinions, wanted, found, strict=True)
    ]


@dataclass(frozen=True)
class UnpairedBatch:
    """Liked and disliked pictures of one shape, with the randomness of this step already drawn.

    Attributes:
        liked, disliked: clean latents in model units, (B, C, h, w) each; row by row they belong to nothing in common.
        noise: a draw for each picture, the liked first, (2B, C, h, w).
        timesteps: likewise, (2B,) int64.
        conditioning: likewise, of 2B captions.
    """

    liked: Tensor
    disliked: Tensor
    noise: Tensor
    timesteps: Tensor
    conditioning: Conditioning

    def __len__(self) -> int:
        return self.liked.shape[0]

    def stacked(self) -> Stacked:
        """Liked before disliked, each with its own noise, timestep and caption."""
        return torch.cat([self.liked, self.disliked]), self.noise, self.timesteps, self.conditioning

    def to(self, device: torch.device | str) -> UnpairedBatch:
        """Move every tensor; the denoiser casts to the precision it works in."""
        return UnpairedBatch(
            self.liked.to(device),
            self.disliked.to(device),
            self.noise.to(device),
            self.timesteps.to(device),
            self.conditioning.to(device, self.conditioning.context.dtype),
        )


@lru_cache(maxsize=256)
def _shuffled(count: int, seed: int, *purpose: object) -> tuple[int, ...]:
    return tuple(torch.randperm(count, generator=draws.generator(seed, *purpose)).tolist())


@dataclass(frozen=True)
class _Shelf:
    """The pictures of one bucket, as places among all opinions. `longer` has a row of the epoch for each."""

    bucket: Bucket
    longer: tuple[int, ...]
    shorter: tuple[int, ...]
    longer_is_liked: bool

    def row(self, place: int, epoch: int, seed: int) -> tuple[int, int]:
        """(liked, disliked) of a row; the shorter side goes round in an order that is new every time."""
        round_, turn = divmod(place, len(self.shorter))
        order = _shuffled(len(self.shorter), seed, "partner", *self.bucket, epoch, round_)
        partner = self.shorter[order[turn]]
        return (self.longer[place], partner) if self.longer_is_liked else (partner, self.longer[place])


@dataclass(frozen=True)
class UnpairedSource(Source[tuple[int, int], UnpairedBatch]):
    """Batches of liked and disliked pictures; a row is their two indices.

    An epoch has as many rows as, in each bucket, the longer side has pictures: it shows each of these once before any
    comes again, and those of the shorter side equally often but for one.

    Attributes:
        opinions: encoded pictures; every bucket among them holds both sides.
    """

    opinions: Sequence[EncodedOpinion]

    def indices(self, step: int) -> tuple[tuple[int, int], ...]:
        """(liked, disliked) of each row of a step, for all processes. -> per_step"""
        shelves, places = self._rows
        epoch, rows = self._in_order(tuple(shelf.bucket for shelf in shelves), step)
        return tuple(shelves[row].row(places[row], epoch, self.seed) for row in rows)

    @cached_property
    def _rows(self) -> tuple[tuple[_Shelf, ...], tuple[int, ...]]:
        """The shelf of each row of an epoch, and the row's place on it."""
        sides: dict[Bucket, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
        for i, opinion in enumerate(self.opinions):
            sides[opinion.bucket][0 if opinion.liked else 1].append(i)
        shelves, places = [], []
        for bucket, (liked, disliked) in sides.items():
            assert liked and disliked, f"bucket {bucket} holds one side only; encode_opinions gives none such"
            more = len(liked) >= len(disliked)
            longer, shorter = (liked, disliked) if more else (disliked, liked)
            shelves += [_Shelf(bucket, tuple(longer), tuple(shorter), more)] * len(longer)
            places += range(len(longer))
        return tuple(shelves), tuple(places)

    def _bucket(self, row: tuple[int, int]) -> Bucket:
        return self.opinions[row[0]].bucket

    def _batch(self, step: int, rows: Sequence[tuple[int, tuple[int, int]]]) -> UnpairedBatch:
        sides = ("liked", "disliked")
        chosen = [(name, p, self.opinions[row[side]]) for side, name in enumerate(sides) for p, row in rows]
        drawn = [self._draw(side, step, position, opinion) for side, position, opinion in chosen]
        clean, noises, timesteps, captions = zip(*drawn, strict=True)
        conditioning = self.conditioning(captions, [opinion.time_ids for _, _, opinion in chosen])
        liked, disliked = torch.cat(clean).chunk(2)
        return UnpairedBatch(liked, disliked, torch.stack(noises), torch.stack(timesteps), conditioning)

    def _draw(
        self, side: str, step: int, position: int, opinion: EncodedOpinion
    ) -> tuple[Tensor, Tensor, Tensor, Path]:
        """One picture's latent, (1, C, h, w), noise, timestep and caption."""
        return self._drawn(draws.generator(self.seed, side, step, position), [opinion.picture], opinion.caption)
