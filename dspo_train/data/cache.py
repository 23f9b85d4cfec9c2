"""Encoding every picture and caption once, into files named by what they were made from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor

from .. import files
from ..config import DataSpec
from ..exceptions import ModelError, RunError
from ..images.buckets import Bucket, make_buckets, nearest_bucket
from ..images.decode import crop_plan, crop_to_bucket, load_rgb, to_tensor
from ..models import conditioning
from ..models.conditioning import Conditioning
from ..pairs import PreferencePair
from . import draws

_LAYOUT = "1"  # part of every name; raise it when the content of the files changes its meaning

Progress = Callable[[int, int], None]
TimeIds = tuple[int, int, int, int, int, int]


class Encoder(Protocol):
    """What the cache needs of a base model."""

    @property
    def image_id(self) -> str: ...

    @property
    def prompt_id(self) -> str: ...

    def moments(self, pixels: Tensor) -> Tensor: ...

    def prompts(self, texts: Sequence[str]) -> Conditioning: ...


@dataclass(frozen=True)
class EncodedPair:
    """Where a pair's encodings lie.

    Attributes:
        key: the pair's own, unique in its folder.
        content: hash of the pair's name, caption and both pictures, whatever the encoder.
        bucket: size in pixels that both pictures were cut to.
        winner, loser: files with the VAE's moments, (2C, h, w); with flips, also those of the mirrored pixels.
        caption: file with the text embeddings.
        time_ids: SDXL's size conditioning, the winner's for both pictures so that it cannot tell them apart.
    """

    key: str
    content: str
    bucket: Bucket
    winner: Path
    loser: Path
    caption: Path
    time_ids: TimeIds


class EncodingCache:
    """A folder of encodings, shared by any number of runs and processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def place(self, kind: str, *parts: object) -> Path:
        """The file for an encoding, named by a hash of everything it depends on."""
        name = files.digest(_LAYOUT, *parts)
        return self.folder / kind / name[:2] / f"{name}.safetensors"

    def read(self, path: Path) -> dict[str, Tensor]:
        """Raises RunError where the file is gone or damaged."""
        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            raise RunError(f"cached encoding {path} cannot be read ({error}); start the same run again") from error

    def has(self, path: Path) -> bool:
        """Is the encoding there and whole? A damaged file counts as absent and is made again."""
        if not path.exists():
            return False
        try:
            load_file(path)
        except (OSError, SafetensorError):
            return False
        return True

    def write(self, path: Path, tensors: dict[str, Tensor]) -> None:
        files.write_bytes(path, to_bytes({k: t.detach().cpu().contiguous() for k, t in tensors.items()}))


@dataclass(frozen=True)
class Wanted:
    """Pictures of one caption that are cut alike; `size` is that of the first, in pixels."""

    key: str
    prompt: str
    pictures: tuple[Path, ...]
    size: tuple[int, int]
    bucket: Bucket


@dataclass(frozen=True)
class Encoded:
    """Where the encodings of a `Wanted` lie, its pictures' file hashes, and SDXL's size conditioning."""

    hashes: tuple[str, ...]
    pictures: tuple[Path, ...]
    caption: Path
    time_ids: TimeIds


def encode_pairs(
    pairs: Sequence[PreferencePair],
    encoder: Encoder,
    cache: EncodingCache,
    data: DataSpec,
    *,
    seed: int,
    share: tuple[int, int] = (0, 1),
    on_progress: Progress = lambda done, total: None,
) -> list[EncodedPair]:
    """Make what the cache lacks and say where everything lies; arguments and errors as of `encode`."""
    buckets = make_buckets(data.resolution, data.bucket_step, data.max_aspect)
    wanted = [
        Wanted(
            pair.key,
            pair.prompt,
            (pair.winner, pair.loser),
            pair.winner_size,
            nearest_bucket(*pair.winner_size, buckets),
        )
        for pair in pairs
    ]
    found = encode(wanted, encoder, cache, data, seed=seed, share=share, on_progress=on_progress)
    return [
        EncodedPair(
            key=item.key,
            content=files.digest(item.key, item.prompt, *encoded.hashes),
            bucket=item.bucket,
            winner=encoded.pictures[0],
            loser=encoded.pictures[1],
            caption=encoded.caption,
            time_ids=encoded.time_ids,
        )
        for item, encoded in zip(wanted, found, strict=True)
    ]


def encode(
    wanted: Sequence[Wanted],
    encoder: Encoder,
    cache: EncodingCache,
    data: DataSpec,
    *,
    seed: int,
    share: tuple[int, int],
    on_progress: Progress,
) -> list[Encoded]:
    """Make what the cache lacks and say where everything lies, in the order given.

    Args:
        seed: for the place of random crops, one place for each item.
        share: (index, count) of this process; it encodes every count-th item and names all.
        on_progress: called with (items done, items in this share).

    Raises:
        DatasetError: a picture that cannot be decoded.
        ModelError: the VAE gave numbers that are not finite.
    """
    index, count = share
    mine = range(index, len(wanted), count)
    found = []
    for i, item in enumerate(wanted):
        position = _crop_position(item.key, data, seed)
        encoded = _locate(item, position, encoder, cache, data)
        if i in mine:
            for source, target in zip(item.pictures, encoded.pictures, strict=True):
                if not cache.has(target):
                    cache.write(target, _picture_moments(source, item.bucket, position, encoder, data))
            _encode_caption(item.prompt, encoded.caption, encoder, cache)
            on_progress(mine.index(i) + 1, len(mine))
        found.append(encoded)
    if data.caption_dropout and index == 0:
        _encode_caption("", empty_caption(encoder, cache), encoder, cache)
    return found


def empty_caption(encoder: Encoder, cache: EncodingCache) -> Path:
    return cache.place("captions", encoder.prompt_id, "")


def _crop_position(key: str, data: DataSpec, seed: int) -> tuple[float, float]:
    """Share of the free room left and above the crop."""
    if data.crop == "center":
        return 0.5, 0.5
    x, y = torch.rand(2, generator=draws.generator(seed, "crop", key), dtype=torch.float64).tolist()
    return x, y


def _locate(
    item: Wanted, position: tuple[float, float], encoder: Encoder, cache: EncodingCache, data: DataSpec
) -> Encoded:
    hashes, bucket = tuple(files.sha256_of(path) for path in item.pictures), item.bucket
    _, (left, top) = crop_plan(item.size, bucket, position)
    width, height = item.size
    return Encoded(
        hashes,
        tuple(cache.place("pictures", encoder.image_id, file, tuple(bucket), position, data.flip) for file in hashes),
        cache.place("captions", encoder.prompt_id, item.prompt),
        (height, width, top, left, bucket.height, bucket.width),
    )


def _picture_moments(
    source: Path, bucket: Bucket, position: tuple[float, float], encoder: Encoder, data: DataSpec
) -> dict[str, Tensor]:
    cut, _ = crop_to_bucket(load_rgb(source), bucket, position)
    pixels = to_tensor(cut)[None]
    views = {"plain": pixels, "flipped": pixels.flip(-1)} if data.flip else {"plain": pixels}
    moments = {name: encoder.moments(view)[0] for name, view in views.items()}
    for tensor in moments.values():
        if not tensor.isfinite().all():
            raise ModelError(f"{source}: the VAE gave values that are not finite; use precision fp32 or bf16")
    return moments


def _encode_caption(text: str, target: Path, encoder: Encoder, cache: EncodingCache) -> None:
    if cache.has(target):
        return
    encoded = encoder.prompts([text])
    tensors = {"context": encoded.context}
    if encoded.pooled is not None:
        tensors["pooled"] = encoded.pooled
    cache.write(target, tensors)


def read_captions(cache: EncodingCache, paths: Iterable[Path]) -> Conditioning:
    """Text conditioning of a batch, without sizes. -> N"""
    parts = [cache.read(path) for path in paths]
    return conditioning.cat([Conditioning(p["context"], p.get("pooled")) for p in parts])
