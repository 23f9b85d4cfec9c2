"""Preferences on disk, pairs or liked and disliked pictures: every dataset layout read, and its defects listed."""

from .opinion_report import format_opinions
from .prompts import prompt_from_image
from .report import format_report
from .scan import scan_pairs
from .types import Defect, DefectKind, Layout, PairScan, PreferencePair
from .unpaired import Opinion, OpinionScan, looks_unpaired, scan_opinions

__all__ = [
    "Defect",
    "DefectKind",
    "Layout",
    "Opinion",
    "OpinionScan",
    "PairScan",
    "PreferencePair",
    "format_opinions",
    "format_report",
    "looks_unpaired",
    "prompt_from_image",
    "scan_opinions",
    "scan_pairs",
]
