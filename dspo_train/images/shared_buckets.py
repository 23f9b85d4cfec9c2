"""Buckets for unpaired images: every shape in use holds images of both sides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from .buckets import Bucket, nearest_bucket

Size = tuple[int, int]


def shared_buckets(
    liked: Sequence[Size], disliked: Sequence[Size], buckets: Sequence[Bucket]
) -> tuple[list[Bucket], list[Bucket]]:
    """The bucket of each liked and of each disliked image, of (width, height) pixels.

    An image whose own bucket holds none of the other side goes to the nearest bucket, by its proportions, that
    holds both. Where no bucket does, all go to the most common one; of equals the larger, then the wider.

    >>> shared_buckets([(9, 9), (9, 5)], [(8, 8)], [Bucket(64, 64), Bucket(80, 48)])
    ([Bucket(width=64, height=64), Bucket(width=64, height=64)], [Bucket(width=64, height=64)])

    Raises:
        ConfigError: an empty image, or no buckets.
    """
    first, second = ([nearest_bucket(*size, buckets) for size in sizes] for sizes in (liked, disliked))
    both = sorted(set(first) & set(second))
    if not both:
        counts = Counter(first + second)
        both = [max(counts, key=lambda b: (counts[b], b.width * b.height, b.width))] if counts else []
    return [nearest_bucket(*size, both) for size in liked], [nearest_bucket(*size, both) for size in disliked]
