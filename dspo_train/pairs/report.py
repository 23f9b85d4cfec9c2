"""A scan as plain text, for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from ..images.buckets import Bucket, make_buckets, nearest_bucket
from .types import Defect, PairScan, PreferencePair

_BAR = 30


def format_report(scan: PairScan, *, resolution: int = 512, step: int = 64, shown: int = 20) -> str:
    """What a scan found: counts, sizes, buckets at a resolution, the first defects and a verdict.

    Every character exists in the Windows code page cp1252; others are written as escapes.

    Args:
        resolution, step: as for `make_buckets`, in pixels.
        shown: how many defects to list.

    Raises:
        ConfigError: no buckets for this resolution and step.
    """
    found = [f"Pairs     {len(scan.pairs)} usable, {len({pair.prompt for pair in scan.pairs})} different prompts"]
    if scan.ties:
        found.append(f"Ties      {scan.ties}, left out")
    details = []
    if scan.pairs:
        sizes = [size for pair in scan.pairs for size in (pair.winner_size, pair.loser_size)]
        details = [size_lines(sizes), _buckets(scan.pairs, make_buckets(resolution, step), resolution)]
    last = verdict(scan.defects, _many(len(scan.pairs), "pair"), "" if scan.pairs else "no pair is left to train on")
    return as_text(scan.folder, scan.layout, found, details, scan.defects, shown, last)


def as_text(
    folder: Path,
    layout: str,
    found: Sequence[str],
    details: Sequence[Sequence[str]],
    defects: Sequence[Defect],
    shown: int,
    last: str,
) -> str:
    """A report: what was `found` and how many defects, the paragraphs of `details`, the defects, the last line."""
    lines = [f"Dataset   {folder}", f"Layout    {layout}", *found, *_defect_counts(defects)]
    for paragraph in [*details, _first_defects(defects, shown)] if defects else details:
        lines += ["", *paragraph]
    return "\n".join(_printable(line) for line in [*lines, "", last])


def verdict(defects: Sequence[Defect], count: str, lack: str) -> str:
    """The last line. `count`: what there is to train on; `lack`: why there is nothing, else empty."""
    fatal = sum(defect.fatal for defect in defects)
    warnings = _many(len(defects) - fatal, "warning")
    if lack:
        return f"NOT USABLE: {lack}; mend the defects above."
    if fatal:
        return f"USABLE with {count}; {_many(fatal, 'defect')} left something out, {warnings}."
    return f"READY: {count}, {warnings if defects else 'nothing to mend'}."


def size_lines(sizes: Sequence[tuple[int, int]]) -> list[str]:
    """The least, middle and largest of widths and heights, pixels."""
    lines = [f"{'Sizes':<9} {'min':>7} {'median':>7} {'max':>7}"]
    for name, values in (("width", [w for w, _ in sizes]), ("height", [h for _, h in sizes])):
        lines.append(f"  {name:<7} {min(values):>7} {median(values):>7.0f} {max(values):>7}")
    return lines


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _buckets(pairs: tuple[PreferencePair, ...], buckets: tuple[Bucket, ...], resolution: int) -> list[str]:
    counts = Counter(nearest_bucket(*pair.winner_size, buckets) for pair in pairs)
    most = max(counts.values())
    lines = [f"Buckets at {resolution} pixels"]
    for bucket in buckets:
        if count := counts[bucket]:
            bar = "#" * max(1, round(_BAR * count / most))
            lines.append(f"  {bucket.width:>5} x {bucket.height:<5} {count:>7}  {bar}")
    small = sum(any(_is_enlarged(size, buckets) for size in (p.winner_size, p.loser_size)) for p in pairs)
    if small:
        count = "1 pair holds" if small == 1 else f"{small} pairs hold"
        lines.append(f"  {count} a picture smaller than its bucket, which would be enlarged")
    return lines


def _is_enlarged(size: tuple[int, int], buckets: tuple[Bucket, ...]) -> bool:
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
