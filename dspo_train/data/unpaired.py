"""Unpaired liked and disliked images as training data.

A row of a batch joins one liked and one disliked image of the same shape that need not have anything else in common.
Each has its own caption, noise and time. Both sides are drawn equally often; the authors of Diffusion-KTO (Li et al.
2024) draw 0.8 of theirs from the liked ones, which the objective's weight `liked` expresses instead.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import torch

from .. import files
from ..config import DataSpec, TrainConfig
from ..exceptions import ConfigError
from ..images.buckets import Bucket, make_buckets
from ..images.shared_buckets import shared_buckets
from ..models.conditioning import Frame
from ..pairs import RatedImage, Scan
from . import draws
from .batch import Batch
from .encode import Opening, Wanted, encode_wanted
from .source import Drawn, Source
from .training_data import RULER, Opened, drawing, encode_rival, refuse_wordless


@dataclass(frozen=True)
class UnpairedData:
    """Implements `training_data.TrainingData`."""

    scan: Scan

    def check(self, config: TrainConfig) -> None:
        """See `TrainingData.check`."""
        self.scan.usable()
        refuse_wordless(self.scan, config)
        needing_pairs = {
            "held_out.share": config.held_out.share,
            "data.one_per_prompt": config.data.one_per_prompt,
        }
        for name, given in needing_pairs.items():
            if given:
                raise ConfigError(
                    f"`{name}` needs pairs, but {self.scan.folder.name} holds unpaired images; leave it out"
                )

    def open(self, config: TrainConfig, opening: Opening) -> Opened:
        """See `TrainingData.open`."""
        images = [_swapped(image) for image in self.scan.images] if config.labels == "swapped" else self.scan.images
        encoded = encode_images(images, config.data, opening)
        encode_rival((image.prompt for image in images), opening)
        content = files.digest(*(image.content for image in encoded))
        return Opened(UnpairedSource(images=encoded, **drawing(config, opening)), None, len(encoded), content)


@dataclass(frozen=True)
class EncodedImage:
    """The files with an image's encodings.

    Attributes:
        key: the image's own, unique in its folder.
        content: hash of the image's name, caption, file and side, independent of the encoder.
        bucket: size in pixels that the image was cropped to.
        image: file with the VAE's moments, (2C, h, w); with flips, also those of the mirrored pixels.
        caption: file with the text embeddings.
    """

    key: str
    content: str
    liked: bool
    bucket: Bucket
    image: Path
    caption: Path
    frame: Frame


def encode_images(
    images: Sequence[RatedImage], data: DataSpec, opening: Opening, *, seed: int = RULER
) -> list[EncodedImage]:
    """Encode what the cache lacks and return where everything is, liked images before disliked ones.

    An image that is also part of a pair elsewhere is encoded once if its crop is the same.

    Args:
        seed: for the place of random crops.

    Raises:
        DatasetError, ModelError: see `encode_wanted`.
    """
    liked, disliked = ([image for image in images if image.liked is side] for side in (True, False))
    buckets = make_buckets(data.resolution, data.bucket_step, data.max_aspect)
    placed = shared_buckets([image.size for image in liked], [image.size for image in disliked], buckets)
    wanted = [
        Wanted(image.key, image.prompt, (image.image,), image.size, bucket)
        for image, bucket in zip(liked + disliked, placed[0] + placed[1], strict=True)
    ]
    found = encode_wanted(wanted, opening, data, seed=seed)
    return [
        EncodedImage(
            key=item.key,
            content=files.digest(item.key, item.prompt, *encoded.hashes, image.liked),
            liked=image.liked,
            bucket=item.bucket,
            image=encoded.images[0],
            caption=encoded.caption,
            frame=encoded.frame,
        )
        for image, item, encoded in zip(liked + disliked, wanted, found, strict=True)
    ]


def _swapped(image: RatedImage) -> RatedImage:
    return dataclasses.replace(image, liked=not image.liked)


@lru_cache(maxsize=256)
def _shuffled(count: int, seed: int, *purpose: object) -> tuple[int, ...]:
    return tuple(torch.randperm(count, generator=draws.generator(seed, *purpose)).tolist())


@dataclass(frozen=True)
class _Shelf:
    """The images of one bucket, as indices into all images. An epoch has one row for each of `longer`."""

    bucket: Bucket
    longer: tuple[int, ...]
    shorter: tuple[int, ...]
    longer_is_liked: bool

    def row(self, place: int, epoch: int, seed: int) -> tuple[int, int]:
        """(liked, disliked) of a row; the shorter side is repeated, each time in a new order."""
        round_, turn = divmod(place, len(self.shorter))
        order = _shuffled(len(self.shorter), seed, "partner", *self.bucket, epoch, round_)
        partner = self.shorter[order[turn]]
        return (self.longer[place], partner) if self.longer_is_liked else (partner, self.longer[place])


@dataclass(frozen=True, kw_only=True)
class UnpairedSource(Source[tuple[int, int]]):
    """A row is the indices of a liked and a disliked image.

    An epoch has, for each bucket, as many rows as the longer side has images: it shows each of them once, and those of
    the shorter side equally often to within one.

    Attributes:
        images: encoded; every one of their buckets holds both sides.
    """

    images: Sequence[EncodedImage]

    def indices(self, step: int) -> tuple[tuple[int, int], ...]:
        """(liked, disliked) of each row of a step, for all processes. -> per_step"""
        shelves, places = self._rows
        epoch, rows = self._in_order(tuple(shelf.bucket for shelf in shelves), step)
        return tuple(shelves[row].row(places[row], epoch, self.seed) for row in rows)

    @cached_property
    def _rows(self) -> tuple[tuple[_Shelf, ...], tuple[int, ...]]:
        """The shelf of each row of an epoch, and the row's place on that shelf."""
        sides: dict[Bucket, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
        for i, image in enumerate(self.images):
            sides[image.bucket][0 if image.liked else 1].append(i)
        shelves, places = [], []
        for bucket, (liked, disliked) in sides.items():
            assert liked and disliked, f"bucket {bucket} holds one side only; encode_images gives none such"
            more = len(liked) >= len(disliked)
            longer, shorter = (liked, disliked) if more else (disliked, liked)
            shelves += [_Shelf(bucket, tuple(longer), tuple(shorter), more)] * len(longer)
            places += range(len(longer))
        return tuple(shelves), tuple(places)

    def _bucket(self, row: tuple[int, int]) -> Bucket:
        return self.images[row[0]].bucket

    def _batch(self, step: int, rows: Sequence[tuple[int, tuple[int, int]]]) -> Batch:
        sides = ("liked", "disliked")
        chosen = [(name, p, self.images[row[side]]) for side, name in enumerate(sides) for p, row in rows]
        drawn = [self._draw(side, step, position, image) for side, position, image in chosen]
        batch = Batch.of(
            self.process,
            torch.cat([each.clean for each in drawn]),
            torch.stack([each.noise for each in drawn]),
            torch.stack([each.time for each in drawn]),
            self.encodings.conditioning([each.caption for each in drawn], [image.frame for _, _, image in chosen]),
        )
        liked = zip(chosen[: len(rows)], drawn, strict=False)
        words = [(position, each.caption, image.frame) for (_, position, image), each in liked]
        return dataclasses.replace(batch, others=self.others(step, words))

    def captions(self) -> tuple[Path, ...]:
        """See `Source.captions`."""
        return self._captions

    @cached_property
    def _captions(self) -> tuple[Path, ...]:
        return tuple(dict.fromkeys(image.caption for image in self.images))

    def _draw(self, side: str, step: int, position: int, image: EncodedImage) -> Drawn:
        return self._drawn(draws.generator(self.seed, side, step, position), [image.image], image.caption)
