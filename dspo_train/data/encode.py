"""Encode every image and caption once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from .. import files
from ..config import DataSpec
from ..exceptions import ModelError
from ..images.buckets import Bucket
from ..images.decode import crop_plan, crop_to_bucket, load_rgb, to_tensor
from ..models.conditioning import Conditioning, Frame
from ..models.process import Process
from . import draws
from .cache import EncodingCache

OnProgress = Callable[[int, int], None]


class Workers(NamedTuple):
    """The index of this process, and the number of processes."""

    process: int = 0
    processes: int = 1


class Encoder(Protocol):
    """What encoding needs from a model."""

    @property
    def image_id(self) -> str:
        """Identifies what `moments` computes."""
        ...

    @property
    def prompt_id(self) -> str:
        """Identifies what `prompts` computes."""
        ...

    @property
    def scaling(self) -> float: ...

    @property
    def shift(self) -> float: ...

    def moments(self, pixels: Tensor) -> Tensor: ...

    def prompts(self, texts: Sequence[str]) -> Conditioning: ...

    def as_read(self, text: str) -> str:
        """What of a prompt `prompts` reads."""
        ...

    def frame(self, frames: Sequence[Frame]) -> Mapping[str, Tensor]: ...


@dataclass(frozen=True)
class Opening:
    """What opening training data needs besides the settings.

    Attributes:
        workers: the processes that share the encoding.
        on_progress: called with (items encoded, items of this process).
    """

    encoder: Encoder
    process: Process
    cache: EncodingCache
    workers: Workers = field(default_factory=Workers)
    on_progress: OnProgress = lambda done, total: None


@dataclass(frozen=True)
class Wanted:
    """Images of one caption that are cropped alike; `size` is the first image's, in pixels."""

    key: str
    prompt: str
    images: tuple[Path, ...]
    size: tuple[int, int]
    bucket: Bucket


@dataclass(frozen=True)
class Encoded:
    """The files with the encodings of a `Wanted`, the hashes of its image files, and how the images were cropped."""

    hashes: tuple[str, ...]
    images: tuple[Path, ...]
    caption: Path
    frame: Frame


def encode_wanted(wanted: Sequence[Wanted], opening: Opening, data: DataSpec, *, seed: int) -> list[Encoded]:
    """Encode what the cache lacks and return where everything is, in the order given.

    Each process encodes its share of the items and returns all of them.

    Args:
        seed: for the place of random crops, one place per item.

    Raises:
        DatasetError: an image cannot be decoded.
        ModelError: the VAE gave numbers that are not finite.
    """
    encoder, cache, (index, count) = opening.encoder, opening.cache, opening.workers
    mine = range(index, len(wanted), count)
    found = []
    for i, item in enumerate(wanted):
        position = _crop_position(item.key, data, seed)
        encoded = _locate(item, position, encoder, cache, data)
        if i in mine:
            for source, target in zip(item.images, encoded.images, strict=True):
                if not cache.has(target):
                    cache.write(target, _image_moments(source, item.bucket, position, encoder, data))
            _encode_caption(item.prompt, encoded.caption, encoder, cache)
            opening.on_progress(mine.index(i) + 1, len(mine))
        found.append(encoded)
    if data.caption_dropout:
        encode_empty(opening)
    return found


def encode_empty(opening: Opening) -> None:
    """Encode the empty caption, in one process."""
    encoder, cache, (index, _) = opening.encoder, opening.cache, opening.workers
    if index == 0:
        _encode_caption("", empty_caption(encoder, cache), encoder, cache)


def empty_caption(encoder: Encoder, cache: EncodingCache) -> Path:
    return cache.place("captions", encoder.prompt_id, "")


def _crop_position(key: str, data: DataSpec, seed: int) -> tuple[float, float]:
    """Shares of the free room that are left of and above the crop."""
    if data.crop == "center":
        return 0.5, 0.5
    x, y = torch.rand(2, generator=draws.generator(seed, "crop", key), dtype=torch.float64).tolist()
    return x, y


def _locate(
    item: Wanted, position: tuple[float, float], encoder: Encoder, cache: EncodingCache, data: DataSpec
) -> Encoded:
    hashes, bucket = tuple(files.sha256_of(path) for path in item.images), item.bucket
    _, (left, top) = crop_plan(item.size, bucket, position)
    width, height = item.size
    return Encoded(
        hashes,
        tuple(cache.place("images", encoder.image_id, file, tuple(bucket), position, data.flip) for file in hashes),
        cache.place("captions", encoder.prompt_id, encoder.as_read(item.prompt)),
        Frame(height, width, top, left, bucket.height, bucket.width),
    )


def _image_moments(
    source: Path, bucket: Bucket, position: tuple[float, float], encoder: Encoder, data: DataSpec
) -> dict[str, Tensor]:
    cropped, _ = crop_to_bucket(load_rgb(source), bucket, position)
    pixels = to_tensor(cropped)[None]
    views = {"plain": pixels, "flipped": pixels.flip(-1)} if data.flip else {"plain": pixels}
    moments = {name: encoder.moments(view)[0] for name, view in views.items()}
    for tensor in moments.values():
        if not tensor.isfinite().all():
            raise ModelError(f"{source}: the VAE gave values that are not finite; set `precision` to fp32 or bf16")
    return moments


def _encode_caption(text: str, target: Path, encoder: Encoder, cache: EncodingCache) -> None:
    if cache.has(target):
        return
    cache.write(target, dict(encoder.prompts([text]).tensors))
