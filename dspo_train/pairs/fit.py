"""How the images of a set fit the buckets of a resolution: what the crop cuts away, and what is enlarged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ..images.buckets import Bucket, make_buckets, nearest_bucket
from ..images.shared_buckets import shared_buckets
from .types import Scan

GROWN = 1.05  # times: a smaller enlargement does not show
SOME, MUCH = 0.1, 0.25  # shares of an image lost to the crop: worth a count, worth a warning


class Fit(NamedTuple):
    """One image and its bucket; sizes are (width, height) in pixels."""

    image: Path
    size: tuple[int, int]
    bucket: Bucket

    @property
    def scale(self) -> float:
        """By how much the image is scaled until it covers the bucket; above 1 it is enlarged."""
        return max(self.bucket.width / self.size[0], self.bucket.height / self.size[1])

    @property
    def lost(self) -> float:
        """The share of its area that the crop then cuts away."""
        return 1 - self.bucket.width * self.bucket.height / (self.size[0] * self.size[1] * self.scale**2)


def fit_rows(scan: Scan, buckets: Sequence[Bucket]) -> list[tuple[Fit, ...]]:
    """The images of each row of a scan with the bucket that training crops them to; a pair has the winner's."""
    placed = _placed(scan, buckets)
    return [
        tuple(Fit(image, size, bucket) for image, size in zip(row.images, row.sizes, strict=True))
        for row, bucket in zip(scan.rows, placed, strict=True)
    ]


def crop_note(scan: Scan, resolution: int, step: int, max_aspect: float) -> str:
    """A warning where much of an image is cut away; empty if that is nowhere so."""
    lost = [max(fit.lost for fit in row) for row in fit_rows(scan, make_buckets(resolution, step, max_aspect))]
    much = sum(share > MUCH for share in lost)
    if not much:
        return ""
    lose = f"{scan.noun} {'loses' if much == 1 else 'lose'}"
    return f"{much} of {len(lost)} {lose} over {MUCH:.0%} of an image's area to the crop, at most {max(lost):.0%}"


def _placed(scan: Scan, buckets: Sequence[Bucket]) -> Iterator[Bucket]:
    if not scan.unpaired:
        yield from (nearest_bucket(*pair.winner_size, buckets) for pair in scan.pairs)
        return
    for side in shared_buckets([i.size for i in scan.liked], [i.size for i in scan.disliked], buckets):
        yield from side
