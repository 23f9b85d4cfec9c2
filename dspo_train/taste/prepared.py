"""Images and prompts as a model takes them, in batches of one shape."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from PIL import Image
from torch import Tensor

from ..images.buckets import Bucket, nearest_bucket
from ..images.decode import crop_to_bucket, to_tensor
from ..models.conditioning import Conditioning, Frame, cat
from ..training.model import Model

Piece = TypeVar("Piece")


@dataclass(frozen=True)
class Prepared:
    """Encoded images, their prompts, and what is known of further prompts.

    Attributes:
        clean: mean latents in model units, (C, h, w) each.
        frames: how each image was cropped.
        prompts: of each image.
        texts: conditioning by prompt.
    """

    model: Model
    clean: Sequence[Tensor]
    frames: Sequence[Frame]
    prompts: Sequence[str]
    texts: Mapping[str, Conditioning]

    def batches(self, at_once: int) -> Iterator[tuple[Sequence[int], Tensor, Conditioning]]:
        """Images of one shape with texts of one shape: their places, (n, C, h, w), and n of their prompts."""
        shapes: dict[Any, list[int]] = {}
        for place, (clean, prompt) in enumerate(zip(self.clean, self.prompts, strict=True)):
            text = tuple((name, tuple(tensor.shape)) for name, tensor in self.texts[prompt].tensors.items())
            shapes.setdefault((tuple(clean.shape), text), []).append(place)
        for alike in shapes.values():
            for places in in_parts(alike, at_once):
                clean = torch.stack([self.clean[place] for place in places])
                yield places, clean, self.conditioning(places, [self.prompts[place] for place in places])

    def conditioning(self, places: Sequence[int], prompts: Sequence[str]) -> Conditioning:
        """Of images with any of the known prompts."""
        text = cat([self.texts[prompt] for prompt in prompts])
        return text.adding(self.model.encoder.frame([self.frames[place] for place in places]))


def prepare(
    model: Model,
    images: Sequence[Image.Image],
    prompts: Sequence[str],
    buckets: Sequence[Bucket],
    further: Sequence[str] = (),
) -> Prepared:
    """Encode images, scaled and cropped to the nearest bucket, and their prompts; frees the encoders' memory.

    An image that is smaller than its bucket gets a smaller one of about the same proportions: enlarging it would add
    nothing but work.

    Args:
        further: prompts to encode besides.

    Raises:
        ModelError: an encoder gives values that are not finite.
    """
    encoder, clean, frames = model.encoder, [], []
    step = math.gcd(*(side for bucket in buckets for side in bucket))
    try:
        for image in images:
            bucket = no_larger(nearest_bucket(*image.size, buckets), image.size, step)
            cropped, (left, top) = crop_to_bucket(image.convert("RGB"), bucket)
            mean = encoder.moments(to_tensor(cropped)[None])[0].chunk(2)[0]
            clean.append((mean - encoder.shift) * encoder.scaling)
            frames.append(Frame(image.height, image.width, top, left, bucket.height, bucket.width))
        texts = {text: encoder.prompts([text]) for text in dict.fromkeys([*prompts, *further])}
    finally:
        encoder.release()
    return Prepared(model, clean, frames, prompts, texts)


def no_larger(bucket: Bucket, size: tuple[int, int], step: int) -> Bucket:
    """A bucket with no more pixels than an image has, to the nearest multiple of `step` on each side.

    >>> no_larger(Bucket(512, 512), (260, 250), 64)
    Bucket(width=256, height=256)
    >>> no_larger(Bucket(512, 512), (500, 500), 64)
    Bucket(width=512, height=512)
    """
    share = min(1.0, math.sqrt(size[0] * size[1] / (bucket.width * bucket.height)))
    return Bucket(*(max(step, round(side * share / step) * step) for side in bucket))


def in_parts(items: Sequence[Piece], size: int) -> Iterator[Sequence[Piece]]:
    """
    >>> list(in_parts("abcde", 2))
    ['ab', 'cd', 'e']
    """
    return (items[start : start + size] for start in range(0, len(items), size))
