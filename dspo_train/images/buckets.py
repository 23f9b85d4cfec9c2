"""Aspect buckets: the few image shapes a run trains on, so that the images of a batch share a shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from ..exceptions import ConfigError

MAX_ASPECT = 4.0  # longest over shortest side of an image; the buckets reach as far


class Bucket(NamedTuple):
    """One image shape, in pixels."""

    width: int
    height: int


def make_buckets(resolution: int, step: int = 64, max_aspect: float = MAX_ASPECT) -> tuple[Bucket, ...]:
    """The shapes of at most resolution x resolution pixels, from tallest to widest.

    Sides are multiples of `step`, and the longer side is at most `max_aspect` times the shorter. A shape that
    fits into another of them is left out, except for the largest square, which is always there.

    >>> make_buckets(64, step=16, max_aspect=2)
    (Bucket(width=48, height=80), Bucket(width=64, height=64), Bucket(width=80, height=48))

    Raises:
        ConfigError: a step below 1, a resolution below the step, or an aspect below 1.
    """
    _check(resolution, step, max_aspect)
    square = resolution // step * step
    shapes = {Bucket(square, square)}
    longest = 0
    for short in range(square, 0, -step):
        long = resolution * resolution // short // step * step
        if long > max_aspect * short:
            break
        if long > longest:  # of equally long shapes the broadest
            shapes |= {Bucket(short, long), Bucket(long, short)}
            longest = long
    return tuple(sorted(shapes, key=lambda shape: (shape.width / shape.height, shape.width)))


def nearest_bucket(width: int, height: int, buckets: Sequence[Bucket]) -> Bucket:
    """The bucket whose proportions are nearest on a logarithmic scale; of equals the larger, then the wider.

    Raises:
        ConfigError: an empty image, or no buckets.
    """
    if width < 1 or height < 1:
        raise ConfigError(f"an image has at least one pixel on each side, got {width}x{height}")
    if not buckets:
        raise ConfigError("there are no buckets to choose from; make them with make_buckets(resolution)")
    aspect = math.log(width / height)

    def rank(bucket: Bucket) -> tuple[float, int, int]:
        # Rounded, so that a portrait and a landscape bucket at the same distance really compare as equal.
        distance = round(abs(aspect - math.log(bucket.width / bucket.height)), 9)
        return distance, -bucket.width * bucket.height, -bucket.width

    return min(buckets, key=rank)


def _check(resolution: int, step: int, max_aspect: float) -> None:
    for name, value in (("resolution", resolution), ("bucket step", step)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ConfigError(f"{name} must be a positive whole number of pixels, got {value!r}")
    if resolution < step:
        raise ConfigError(f"resolution {resolution} is below the bucket step {step}; lower the step or raise it")
    if resolution > 16384:
        raise ConfigError(f"resolution must be at most 16384 pixels, got {resolution}")
    if not (isinstance(max_aspect, (int, float)) and math.isfinite(max_aspect) and max_aspect >= 1):
        raise ConfigError(f"the largest aspect ratio must be a number of at least 1, got {max_aspect!r}")
