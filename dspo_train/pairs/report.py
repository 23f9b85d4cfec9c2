"""A scan as plain text, for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median

from ..images.buckets import Bucket, make_buckets, nearest_bucket
from ..images.shared_buckets import shared_buckets
from .types import Defect, PreferencePair, Scan

_BAR = 30


def format_report(scan: Scan, *, resolution: int = 512, step: int = 64, shown: int = 20) -> str:
    """What a scan found: counts, sizes, buckets at a resolution, the first defects and a verdict.

    Every character exists in the Windows code page cp1252; others are written as escapes.

    Args:
        resolution, step: as for `make_buckets`, in pixels.
        shown: how many defects to list.

    Raises:
        ConfigError: no buckets for this resolution and step.
    """
    lines = [f"Dataset   {scan.folder}", f"Layout    {_layout(scan)}", _counts(scan)]
    if scan.ties:
        lines.append(f"Ties      {scan.ties}, left out")
    lines += _defect_counts(scan.defects)
    if not scan.lack:
        buckets = make_buckets(resolution, step)
        rows = _rated_buckets(scan, buckets) if scan.unpaired else _pair_buckets(scan.pairs, buckets)
        lines += ["", *_size_lines(scan), "", f"Buckets at {resolution} pixels{_sides(scan)}", *rows]
    if scan.defects:
        lines += ["", *_first_defects(scan.defects, shown)]
    return "\n".join(_printable(line) for line in [*lines, "", _verdict(scan)])


def _layout(scan: Scan) -> str:
    return f"liked and disliked, by {scan.layout}" if scan.unpaired else scan.layout


def _sides(scan: Scan) -> str:
    return ", liked and disliked" if scan.unpaired else ""


def _counts(scan: Scan) -> str:
    prompts = f"{len(set(scan.prompts))} different prompts"
    if scan.unpaired:
        return f"Images    {len(scan.liked)} liked, {len(scan.disliked)} disliked, {prompts}"
    return f"Pairs     {len(scan.pairs)} usable, {prompts}"


def _verdict(scan: Scan) -> str:
    """The last line: what there is to train on, or that there is nothing."""
    fatal = sum(defect.fatal for defect in scan.defects)
    warnings = _many(len(scan.defects) - fatal, "warning")
    count = f"{len(scan.liked)} liked and {len(scan.disliked)} disliked images"
    if scan.lack:
        lack = "one side has no image to train on" if scan.unpaired else "no pair is left to train on"
        return f"NOT USABLE: {lack}; fix the defects above."
    if not scan.unpaired:
        count = _many(len(scan.pairs), "pair")
    if fatal:
        return f"USABLE with {count}; {_many(fatal, 'defect')} left something out, {warnings}."
    return f"READY: {count}, {warnings if scan.defects else 'nothing to fix'}."


def _size_lines(scan: Scan) -> list[str]:
    """The minimum, median and maximum of widths and heights in pixels."""
    sizes = [size for row in scan.rows for size in row.sizes]
    lines = [f"{'Sizes':<9} {'min':>7} {'median':>7} {'max':>7}"]
    for name, values in (("width", [w for w, _ in sizes]), ("height", [h for _, h in sizes])):
        lines.append(f"  {name:<7} {min(values):>7} {median(values):>7.0f} {max(values):>7}")
    return lines


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _pair_buckets(pairs: Sequence[PreferencePair], buckets: Sequence[Bucket]) -> list[str]:
    """Pairs of each bucket, with a bar, and how many would be enlarged."""
    counts = Counter(nearest_bucket(*pair.winner_size, buckets) for pair in pairs)
    most = max(counts.values())
    lines = []
    for bucket in buckets:
        if count := counts[bucket]:
            lines.append(f"{_bucket(bucket)} {count:>7}  {'#' * max(1, round(_BAR * count / most))}")
    small = sum(any(_is_enlarged(size, buckets) for size in pair.sizes) for pair in pairs)
    if small:
        count = "1 pair holds" if small == 1 else f"{small} pairs hold"
        lines.append(f"  {count} an image smaller than its bucket, which would be enlarged")
    return lines


def _rated_buckets(scan: Scan, buckets: Sequence[Bucket]) -> list[str]:
    """Liked and disliked images of each bucket, and how many were moved to another."""
    sizes = [image.size for image in scan.liked], [image.size for image in scan.disliked]
    liked, disliked = shared_buckets(*sizes, buckets)
    counts = Counter(liked), Counter(disliked)
    lines = [f"{_bucket(each)} {counts[0][each]:>7} {counts[1][each]:>7}" for each in buckets if counts[0][each]]
    placed = zip(sizes[0] + sizes[1], liked + disliked, strict=True)
    moved = sum(nearest_bucket(*size, buckets) != bucket for size, bucket in placed)
    if moved:
        what = "1 image is" if moved == 1 else f"{moved} images are"
        lines.append(f"  {what} cropped to another bucket; the other side has no image of that shape")
    return lines


def _bucket(bucket: Bucket) -> str:
    return f"  {bucket.width:>5} x {bucket.height:<5}"


def _is_enlarged(size: tuple[int, int], buckets: Sequence[Bucket]) -> bool:
    bucket = nearest_bucket(*size, buckets)
    return size[0] < bucket.width or size[1] < bucket.height


def _defect_counts(defects: Sequence[Defect]) -> list[str]:
    """How many of each kind, the most frequent first."""
    lines, kinds = [], Counter((defect.kind, defect.fatal) for defect in defects)
    for place, ((kind, fatal), count) in enumerate(sorted(kinds.items(), key=lambda item: (-item[1], item[0]))):
        label = "" if place else "Defects"
        lines.append(f"{label:<9} {count:>5}  {kind.replace('_', ' ')}{'' if fatal else ' (warning)'}")
    return lines


def _first_defects(defects: Sequence[Defect], shown: int) -> list[str]:
    ordered = sorted(defects, key=lambda defect: not defect.fatal)
    lines = [f"First {shown} of {len(defects)} defects" if len(defects) > shown else "All defects"]
    for defect in ordered[:shown]:
        mark = "x" if defect.fatal else "!"
        lines.append(f"  {mark} {defect}")
    return lines


def _printable(line: str) -> str:
    """Names may hold control characters (which a terminal would obey) and letters that cp1252 lacks."""
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in line)
    return safe.encode("cp1252", "backslashreplace").decode("cp1252")
