"""A scan of liked and disliked pictures as plain text, for the terminal."""

from __future__ import annotations

from collections import Counter

from ..images.buckets import make_buckets, nearest_bucket
from ..images.shared_buckets import shared_buckets
from .report import as_text, size_lines, verdict
from .unpaired import OpinionScan


def format_opinions(scan: OpinionScan, *, resolution: int = 512, step: int = 64, shown: int = 20) -> str:
    """What a scan found: counts, sizes, buckets at a resolution, the first defects and a verdict.

    Every character exists in the Windows code page cp1252; others are written as escapes.

    Args:
        resolution, step: as for `make_buckets`, in pixels.
        shown: how many defects to list.

    Raises:
        ConfigError: no buckets for this resolution and step.
    """
    both, usable = scan.liked + scan.disliked, bool(scan.liked and scan.disliked)
    prompts = len({opinion.prompt for opinion in both})
    found = f"Pictures  {len(scan.liked)} liked, {len(scan.disliked)} disliked, {prompts} different prompts"
    details = [size_lines([opinion.size for opinion in both]), _buckets(scan, resolution, step)] if usable else []
    count = f"{len(scan.liked)} liked and {len(scan.disliked)} disliked pictures"
    last = verdict(scan.defects, count, "" if usable else "one side has no picture to train on")
    return as_text(scan.folder, f"liked and disliked, by {scan.layout}", [found], details, scan.defects, shown, last)


def _buckets(scan: OpinionScan, resolution: int, step: int) -> list[str]:
    """Liked and disliked pictures of each bucket, and how many had to leave their own."""
    buckets = make_buckets(resolution, step)
    sizes = [opinion.size for opinion in scan.liked], [opinion.size for opinion in scan.disliked]
    liked, disliked = shared_buckets(*sizes, buckets)
    counts = Counter(liked), Counter(disliked)
    lines = [f"Buckets at {resolution} pixels, liked and disliked"]
    for bucket in buckets:
        if counts[0][bucket]:
            lines.append(f"  {bucket.width:>5} x {bucket.height:<5} {counts[0][bucket]:>7} {counts[1][bucket]:>7}")
    placed = zip(sizes[0] + sizes[1], liked + disliked, strict=True)
    moved = sum(nearest_bucket(*size, buckets) != bucket for size, bucket in placed)
    if moved:
        what = "1 picture is" if moved == 1 else f"{moved} pictures are"
        lines.append(f"  {what} cut to another shape than the own, which the other side lacks")
    return lines
