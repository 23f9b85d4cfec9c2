"""A scan as plain text, for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median

from ..files.words import many
from ..images.buckets import Bucket, make_buckets, nearest_bucket
from .fit import GROWN, MUCH, SOME, Fit, fit_rows
from .listing import EXTRACTED
from .types import Defect, Scan

_BAR = 30


def format_report(
    scan: Scan,
    *,
    resolution: int = 512,
    step: int = 64,
    shown: int | None = 20,
    more: str = "",
    remarks: Sequence[str] = (),
) -> str:
    """What a scan found: counts, sizes, buckets at a resolution, the first defects and a verdict.

    Every character exists in the Windows code page cp1252; others are written as escapes.

    Args:
        resolution, step: as for `make_buckets`, in pixels.
        shown: how many defects to list; None for all.
        more: how to see the others.
        remarks: on the prompts, one sentence each.

    Raises:
        ConfigError: no buckets for this resolution and step.
    """
    lines = [f"Dataset   {scan.folder}", f"Layout    {_layout(scan)}", _counts(scan)]
    if scan.ties:
        lines.append(f"Ties      {scan.ties}, left out")
    lines += [f"{'' if place else 'Prompts':<9} {remark}" for place, remark in enumerate(remarks)]
    lines += _defect_counts(scan.defects)
    buckets = make_buckets(resolution, step)
    fits = [] if scan.lack else fit_rows(scan, buckets)
    if fits:
        rows = _rated_buckets(scan, fits, buckets) if scan.unpaired else _pair_buckets(fits, buckets)
        rows += [*_cropped(scan, fits), *_enlarged(scan, fits)]
        lines += ["", *_size_lines(scan), "", f"Buckets at {resolution} pixels{_sides(scan)}", *rows]
    if scan.defects:
        lines += ["", *_first_defects(scan.defects, shown, more)]
    return "\n".join(_printable(line) for line in [*lines, "", _verdict(scan, fits, remarks)])


def _layout(scan: Scan) -> str:
    return f"liked and disliked, by {scan.layout}" if scan.unpaired else scan.layout


def _sides(scan: Scan) -> str:
    return ", liked and disliked" if scan.unpaired else ""


def _counts(scan: Scan) -> str:
    prompts = many(len(set(scan.prompts)), "different prompt")
    if scan.unpaired:
        return f"Images    {len(scan.liked)} liked, {len(scan.disliked)} disliked, {prompts}"
    return f"Pairs     {len(scan.pairs)} usable, {prompts}"


def _verdict(scan: Scan, fits: Sequence[tuple[Fit, ...]], remarks: Sequence[str]) -> str:
    """The last line: what there is to train on, or that there is nothing."""
    fatal = sum(defect.fatal for defect in scan.defects)
    warned = len(scan.defects) - fatal + len(remarks)
    warnings = many(warned, "warning")
    cropped = sum(max(fit.lost for fit in row) > MUCH for row in fits)
    crop = f", {_some(cropped, scan)} over {MUCH:.0%} of an image's area to the crop" if cropped else ""
    count = f"{len(scan.liked)} liked and {len(scan.disliked)} disliked images"
    if scan.lack:
        lack = "one side has no image to train on" if scan.unpaired else "no pair is left to train on"
        return f"NOT USABLE: {lack}; fix the defects above."
    if not scan.unpaired:
        count = many(len(scan.pairs), "pair")
    if fatal:
        return (
            f"USABLE with {count}; {many(fatal, 'defect')} left something out{f', {warnings}' if warned else ''}{crop}."
        )
    if scan.defects or remarks:
        return f"READY: {count}, {warnings}{crop}."
    return f"READY: {count}{crop or ', nothing to fix'}."


def _size_lines(scan: Scan) -> list[str]:
    """The minimum, median and maximum of widths and heights in pixels."""
    sizes = [size for row in scan.rows for size in row.sizes]
    lines = [f"{'Sizes':<9} {'min':>7} {'median':>7} {'max':>7}"]
    for name, values in (("width", [w for w, _ in sizes]), ("height", [h for _, h in sizes])):
        lines.append(f"  {name:<7} {min(values):>7} {median(values):>7.0f} {max(values):>7}")
    return lines


def _pair_buckets(fits: Sequence[tuple[Fit, ...]], buckets: Sequence[Bucket]) -> list[str]:
    """Pairs of each bucket, with a bar."""
    counts = Counter(winner.bucket for winner, _ in fits)
    most = max(counts.values())
    return [
        f"{_bucket(bucket)} {counts[bucket]:>7}  {'#' * max(1, round(_BAR * counts[bucket] / most))}"
        for bucket in buckets
        if counts[bucket]
    ]


def _rated_buckets(scan: Scan, fits: Sequence[tuple[Fit, ...]], buckets: Sequence[Bucket]) -> list[str]:
    """Liked and disliked images of each bucket, and how many were moved to another."""
    placed = [fit for row in fits for fit in row]
    sides = placed[: len(scan.liked)], placed[len(scan.liked) :]
    liked, disliked = (Counter(fit.bucket for fit in side) for side in sides)
    lines = [f"{_bucket(each)} {liked[each]:>7} {disliked[each]:>7}" for each in buckets if liked[each]]
    moved = sum(nearest_bucket(*fit.size, buckets) != fit.bucket for fit in placed)
    if moved:
        what = "1 image is" if moved == 1 else f"{moved} images are"
        lines.append(f"  {what} cropped to another bucket; the other side has no image of that shape")
    return lines


def _cropped(scan: Scan, fits: Sequence[tuple[Fit, ...]]) -> list[str]:
    """How many rows lose how much of an image to the crop, and the worst case."""
    worst = [max(row, key=lambda fit: fit.lost) for row in fits]
    some, much = (sum(fit.lost > share for fit in worst) for share in (SOME, MUCH))
    if not some:
        return []
    one, size = max(worst, key=lambda fit: fit.lost), "{}x{}".format
    share, more = SOME, f", {much} of them over {MUCH:.0%}" if much else ""
    if some == much:
        share, more = MUCH, ""
    return [
        f"  {_some(some, scan)} over {share:.0%} of an image's area to the crop{more}",
        f"    most: {one.lost:.0%} of {_below(scan, one)}, {size(*one.size)} in {size(*one.bucket)}",
    ]


def _some(count: int, scan: Scan) -> str:
    return f"1 {scan.noun[:-1]} loses" if count == 1 else f"{count} {scan.noun} lose"


def _enlarged(scan: Scan, fits: Sequence[tuple[Fit, ...]]) -> list[str]:
    """How many rows hold an image that is smaller than its bucket, and the worst case."""
    worst = [max(row, key=lambda fit: fit.scale) for row in fits]
    small = [fit for fit in worst if fit.scale > GROWN]
    if not small:
        return []
    one = max(small, key=lambda fit: fit.scale)
    count = f"1 {scan.noun[:-1]} is" if len(small) == 1 else f"{len(small)} {scan.noun} are"
    return [f"  {count} enlarged", f"    most: {one.scale:.1f} times, {_below(scan, one)}"]


def _below(scan: Scan, fit: Fit) -> str:
    """The image's path in the folder, or the place of its row where a table embeds it."""
    if not fit.image.is_relative_to(scan.folder):
        return str(fit.image)
    relative = fit.image.relative_to(scan.folder).as_posix()
    if not relative.startswith(EXTRACTED):
        return relative
    return next(row.place or row.key for row in scan.rows if fit.image in row.images)


def _bucket(bucket: Bucket) -> str:
    return f"  {bucket.width:>5} x {bucket.height:<5}"


def _defect_counts(defects: Sequence[Defect]) -> list[str]:
    """How many of each kind, the most frequent first."""
    lines, kinds = [], Counter((defect.kind, defect.fatal) for defect in defects)
    for place, ((kind, fatal), count) in enumerate(sorted(kinds.items(), key=lambda item: (-item[1], item[0]))):
        label = "" if place else "Defects"
        lines.append(f"{label:<9} {count:>5}  {kind.replace('_', ' ')}{'' if fatal else ' (warning)'}")
    return lines


def _first_defects(defects: Sequence[Defect], shown: int | None, more: str) -> list[str]:
    ordered = sorted(defects, key=lambda defect: not defect.fatal)
    few = shown is not None and len(defects) > shown
    lines = [f"First {shown} of {len(defects)} defects{more}" if few else "All defects"]
    for defect in ordered[:shown]:
        mark = "x" if defect.fatal else "!"
        lines.append(f"  {mark} {defect}")
    return lines


def _printable(line: str) -> str:
    """Names may hold control characters (which a terminal would obey) and letters that cp1252 lacks."""
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in line)
    return safe.encode("cp1252", "backslashreplace").decode("cp1252")
