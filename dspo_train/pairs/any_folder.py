"""A folder of either kind: labelled pairs, or pictures that were liked and disliked one by one."""

from __future__ import annotations

import os

from .opinion_report import format_opinions
from .report import format_report
from .scan import scan_pairs
from .types import PairScan
from .unpaired import OpinionScan, looks_unpaired, scan_opinions

Scan = PairScan | OpinionScan


def scan_folder(folder: str | os.PathLike[str], *, deep: bool = False, allow_empty_captions: bool = False) -> Scan:
    """Read a folder as what it holds.

    Raises:
        DatasetError: see `scan_pairs` and `scan_opinions`, whose arguments these are.
    """
    scan = scan_opinions if looks_unpaired(folder) else scan_pairs
    return scan(folder, deep=deep, allow_empty_captions=allow_empty_captions)


def format_scan(scan: Scan, *, resolution: int = 512) -> str:
    """What a scan found, as text; see `format_report` and `format_opinions`."""
    if isinstance(scan, OpinionScan):
        return format_opinions(scan, resolution=resolution)
    return format_report(scan, resolution=resolution)


def is_usable(scan: Scan) -> bool:
    """Is there something to train on?"""
    return bool(scan.liked and scan.disliked) if isinstance(scan, OpinionScan) else bool(scan.pairs)
